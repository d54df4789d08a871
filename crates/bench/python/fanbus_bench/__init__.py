"""The load driver behind `fanbus bench` and `fanbus tune`.

The measuring is done in Rust (`_core.bench`). The modules here are the command lines, the table,
the progress bar and the charts. `fanbus` imports them only for these commands.
"""
