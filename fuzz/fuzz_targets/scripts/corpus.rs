//! The scripts that fuzzers found worth keeping, played without one. Part of two test binaries.

use std::fs;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};

/// Plays the scripts that are kept for a fuzzer, as libFuzzer's harness makes them of the bytes of a
/// file. Bytes that make none are passed by.
pub(crate) fn replay<S: for<'a> Arbitrary<'a>>(target: &str, play: impl Fn(S)) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let files = fs::read_dir(folder.join(target)).expect("the corpus is part of the repository");
    let mut played = 0;
    for file in files {
        let bytes = fs::read(file.expect("a readable folder").path()).expect("a script");
        if let Ok(script) = S::arbitrary_take_rest(Unstructured::new(&bytes)) {
            play(script);
            played += 1;
        }
    }
    assert!(played >= 20, "only {played} scripts in the corpus");
}
