"""The command `fanbus`."""
