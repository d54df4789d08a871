"""What the paths of a message cost, in instructions: `make cost`."""
