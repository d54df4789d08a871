"""The measurements of Fanbus: docs/benchmarks.md."""
