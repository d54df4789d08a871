"""All figures of docs/benchmarks.md, measured in one sitting: `make figures`."""
