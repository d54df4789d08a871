"""The performance lab: `fanbus bench`.

The measuring is done in Rust (`_core.bench`); here are the command lines, the table, the progress
bar and the curves. Nothing of it is imported before it is asked for.
"""
