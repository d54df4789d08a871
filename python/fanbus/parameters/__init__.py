"""Parameters of handlers: their signatures and annotations, and the readers of their values."""
