"""Event streams (Server-Sent Events) of a topic, or of a generator."""
