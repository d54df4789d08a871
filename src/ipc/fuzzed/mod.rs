//! What a fuzzer plays on the bus: scripts of honest calls and of damage in between.
//!
//! No build of the product has it. `make fuzz` builds it under `cfg(fuzzing)` and lets libFuzzer write
//! the scripts (`fuzz/fuzz_targets`); `cargo test` plays those that were worth keeping (`fuzz/corpus`).
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
