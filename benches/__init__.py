"""How Fanbus is measured: docs/benchmarks.md."""
