//! The scripts that fuzzers found worth keeping, played without one.

#[path = "../../../fuzz/fuzz_targets/scripts/corpus.rs"]
mod corpus;

use self::corpus::replay;
use super::{Opening, Script};

#[test]
fn the_scripts_that_a_fuzzer_kept_break_nothing() {
    replay("bus", Script::play);
}

#[test]
fn the_files_that_a_fuzzer_kept_can_be_opened_or_are_refused() {
    replay("opening", Opening::play);
}
