//! All Rust integration tests, in one binary.

mod bus;
