"""New code for a server that runs."""
