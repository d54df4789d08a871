"""The cost of the paths of a message, in instructions: `make cost`."""
