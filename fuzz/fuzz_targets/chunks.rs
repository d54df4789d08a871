//! A chunked body: however the network cuts it, and however little room there is, it is the same body.
#![no_main]

#[path = "scripts/chunks.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| script::play(bytes));
