//! The fuzz target of HTTP/1 request heads: for any bytes, and every way of cutting them, a head is refused or
//! understood in one way.
#![no_main]

#[path = "scripts/head.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| script::play(bytes));
