//! The scripts of the fuzzers: calls as the product makes them, with damage in between.
//!
//! No build of the product has this module. `make fuzz` builds it under `cfg(fuzzing)` and lets libFuzzer write the
//! scripts (`fuzz/fuzz_targets`). `cargo test` plays the retained ones (`fuzz/corpus`).
//!
//! A script fails by a panic, by a read outside of the segment, and by never ending.

mod memory;
mod opening;
#[cfg(test)]
mod replay;
mod script;
mod sound;
mod write;

pub use opening::Opening;
pub use script::Script;
