"""Suites of others, run by `make autobahn` and `make suites`."""
