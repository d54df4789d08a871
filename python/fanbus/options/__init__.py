"""What a server can be told: from the table in `fanbus.config` to values and where each came from.

`kinds` knows what a value may be, `option` what an option is, `sources` which value is in force;
`arguments`, `files` and `report` are the command line, the files, and what is shown of it all.
"""
