//! Bytes between processes: the bus in shared memory. Knows no runtime, no HTTP, no Python.
