//! The replay of the corpus, without a fuzzer. Part of several test modules.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};

/// Plays the scripts of a fuzzer's corpus, as libFuzzer's harness makes them from the bytes of a file. Bytes that do
/// not make a script are skipped.
pub(crate) fn replay<S: for<'a> Arbitrary<'a>>(target: &str, play: impl Fn(S)) {
    let played = Cell::new(0);
    replay_bytes(target, |bytes| {
        if let Ok(script) = S::arbitrary_take_rest(Unstructured::new(bytes)) {
            play(script);
            played.set(played.get() + 1);
        }
    });
    let played = played.get();
    assert!(played >= 20, "only {played} scripts in the corpus");
}

/// Plays the corpus of a fuzzer of plain bytes.
pub(crate) fn replay_bytes(target: &str, play: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let files = fs::read_dir(folder.join(target)).expect("the corpus is part of the repository");
    let mut played = 0;
    for file in files {
        play(&fs::read(file.expect("a readable folder").path()).expect("a script"));
        played += 1;
    }
    assert!(played >= 20, "only {played} inputs in the corpus");
}
