//! The WebSocket decoder: a client's honest frames and then anything, cut anywhere.
#![no_main]

#[path = "scripts/codec.rs"]
mod script;

use script::Script;

libfuzzer_sys::fuzz_target!(|script: Script| script.play());
