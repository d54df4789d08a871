"""Parameters of handlers: what their signatures ask for, and how values are read."""
