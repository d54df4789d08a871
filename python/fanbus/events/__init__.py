"""Event streams (Server-Sent Events): of a topic, or of what a generator makes."""
