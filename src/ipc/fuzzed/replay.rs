//! The replay of the fuzzers' corpus, without a fuzzer.

#[path = "../../../fuzz/fuzz_targets/scripts/corpus.rs"]
mod corpus;

use self::corpus::replay;
use super::{Opening, Script};

#[test]
fn the_scripts_of_the_corpus_break_nothing() {
    replay("bus", Script::play);
}

#[test]
fn the_files_of_the_corpus_are_opened_or_refused() {
    replay("opening", Opening::play);
}
