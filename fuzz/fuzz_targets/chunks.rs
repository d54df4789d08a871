//! The fuzz target of chunked bodies: the body is the same for every way of cutting it, and for every size of the
//! output.
#![no_main]

#[path = "scripts/chunks.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| script::play(bytes));
