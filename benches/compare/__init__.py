"""Fanbus and its peers, side by side: `make compare`, or `python -m benches.compare --help`."""
