"""The options of a server: from the table in `fanbus.config` to values with their sources.

`kinds` has the kinds of values, `option` the options, `sources` the choice of the source.
`arguments`, `files` and `report` are the command line, the files, and the output of `fanbus
config`.
"""
