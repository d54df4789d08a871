//! The opening handshake: whatever headers come, it is refused or answered, and the answer is one.
#![no_main]

#[path = "scripts/handshake.rs"]
mod script;

use script::Request;

libfuzzer_sys::fuzz_target!(|request: Request| request.play());
