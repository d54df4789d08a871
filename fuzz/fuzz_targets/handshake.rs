//! The fuzz target of the opening handshake: for any headers, the request is refused or accepted, with one response.
#![no_main]

#[path = "scripts/handshake.rs"]
mod script;

use script::Request;

libfuzzer_sys::fuzz_target!(|request: Request| request.play());
