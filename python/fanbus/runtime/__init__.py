"""The runtime of a worker process."""
