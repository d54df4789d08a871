"""The command that measures all figures of docs/benchmarks.md in one sitting: `make figures`."""
