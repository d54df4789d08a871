"""What runs in a worker process, and helps it."""
