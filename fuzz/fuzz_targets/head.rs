//! The head of a request over HTTP/1: whatever comes, and however the network cuts it, it is refused, or
//! understood in one way.
#![no_main]

#[path = "scripts/head.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| script::play(bytes));
