//! The fuzz target of publishers and readers over a segment that is damaged meanwhile.
#![no_main]

use fanbus::ipc::fuzzed::Script;

libfuzzer_sys::fuzz_target!(|script: Script| script.play());
