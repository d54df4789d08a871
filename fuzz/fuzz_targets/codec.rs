//! The fuzz target of the WebSocket decoder: valid frames of a client and then any bytes, cut anywhere.
#![no_main]

#[path = "scripts/codec.rs"]
mod script;

use script::Script;

libfuzzer_sys::fuzz_target!(|script: Script| script.play());
