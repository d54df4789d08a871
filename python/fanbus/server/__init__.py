"""The processes of a server: from its start to its end."""
