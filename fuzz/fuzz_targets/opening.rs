//! The fuzz target that opens any file under a bus's name in /dev/shm.
#![no_main]

use fanbus::ipc::fuzzed::Opening;

libfuzzer_sys::fuzz_target!(|opening: Opening| opening.play());
