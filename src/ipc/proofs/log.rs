//! The models of the log: two and three publishers at once, and readers.

use loom::sync::Arc;
use loom::thread;

use super::super::log::{EntryState, Log, LogEntry};
use super::super::sync::AtomicU64;
use super::{Seen, words};

/// Entries of the log.
const ENTRIES: usize = 2;
/// Offsets that are committed before a model begins. The second one after them moves the tail.
const BEFORE: u64 = 6;

pub(super) fn entry(publisher: u64, number: u64) -> LogEntry {
    LogEntry {
        tag: number as u8,
        slot: publisher as u8,
        pos: number * 64,
    }
}

pub(super) struct LogMemory {
    entries: Vec<AtomicU64>,
    tail: AtomicU64,
}

impl LogMemory {
    pub(super) fn new(filled: u64) -> LogMemory {
        let memory = LogMemory {
            entries: words(ENTRIES),
            tail: AtomicU64::new(0),
        };
        for number in 0..filled {
            assert_eq!(memory.log().commit(number, entry(60, number)), Ok(number));
        }
        memory
    }

    pub(super) fn log(&self) -> Log<'_> {
        Log::new(&self.entries, &self.tail)
    }

    /// Publishes `count` entries from an offset below the end on, and returns their offsets.
    fn publish(&self, publisher: u64, count: u64) -> Vec<u64> {
        let mut from = BEFORE;
        let commit = |number| {
            let offset = self.log().commit(from, entry(publisher, number));
            from = offset.expect("the log is sound") + 1;
            from - 1
        };
        (0..count).map(commit).collect()
    }

    /// The checks at the end: offsets without gaps, in order for each publisher, and the remaining entries are the
    /// committed ones.
    fn check(&self, offsets: &[Vec<u64>]) {
        let mut all: Vec<_> = offsets.concat();
        all.sort_unstable();
        let end = BEFORE + all.len() as u64;
        assert_eq!(all, (BEFORE..end).collect::<Vec<_>>(), "{offsets:?}");
        assert!(offsets.iter().all(|own| own.is_sorted()));
        let (log, tail) = (self.log(), self.log().tail());
        assert_eq!((log.end(0), log.end(BEFORE)), (end, end));
        assert!(
            tail <= end && end - tail < 8,
            "the tail is at {tail}, the end at {end}"
        );
        assert!(log.is_sound());
        for (publisher, own) in offsets.iter().enumerate() {
            for (number, offset) in own.iter().enumerate() {
                let mine = EntryState::Filled(entry(publisher as u64, number as u64));
                let oldest = end - ENTRIES as u64;
                assert_eq!(log.state_at(*offset) == mine, *offset >= oldest);
            }
        }
    }
}

fn publish_at_once(counts: &'static [u64]) {
    loom::model(move || {
        let memory = Arc::new(LogMemory::new(BEFORE));
        let publish = |publisher: usize| {
            let memory = Arc::clone(&memory);
            thread::spawn(move || memory.publish(publisher as u64, counts[publisher]))
        };
        let others: Vec<_> = (1..counts.len()).map(publish).collect();
        let mut offsets = vec![memory.publish(0, counts[0])];
        offsets.extend(
            others
                .into_iter()
                .map(|other| other.join().expect("no panic")),
        );
        memory.check(&offsets);
    });
}

#[test]
fn two_publishers_over_two_laps_give_every_offset_once() {
    publish_at_once(&[2, 2]);
}

#[test]
fn three_publishers_give_every_offset_once() {
    publish_at_once(&[1, 1, 1]);
}

#[test]
fn a_reader_that_sees_an_entry_sees_all_before_it() {
    let (one, both) = (Seen::new(), Seen::new());
    loom::model(move || {
        let memory = Arc::new(LogMemory::new(BEFORE));
        // Before the reader, which so comes last: see `proofs`.
        let other = Arc::clone(&memory);
        let publisher = thread::spawn(move || other.publish(1, 1));
        let other = Arc::clone(&memory);
        let reader = thread::spawn(move || {
            let log = other.log();
            // Backwards: an order in which a hole would show.
            let second = log.state_at(BEFORE + 1);
            let first = log.state_at(BEFORE);
            if let EntryState::Filled(_) = first {
                one.note();
                assert_eq!(log.state_at(BEFORE), first, "an entry that was seen stays");
            }
            if let EntryState::Filled(second) = second {
                both.note();
                assert!(
                    matches!(first, EntryState::Filled(_)),
                    "a hole before {second:?}"
                );
                assert_ne!(first, EntryState::Filled(second), "one entry twice");
            }
        });
        let offsets = memory.publish(0, 1);
        memory.check(&[offsets, publisher.join().expect("no panic")]);
        reader.join().expect("no panic");
    });
    one.assert("the first was seen");
    both.assert("both were seen");
}

#[test]
fn a_reader_that_sees_the_tail_sees_the_entries_before_it() {
    let moved = Seen::new();
    loom::model(move || {
        let memory = Arc::new(LogMemory::new(BEFORE));
        let other = Arc::clone(&memory);
        let reader = thread::spawn(move || {
            let (log, tail) = (other.log(), other.log().tail());
            if tail > BEFORE {
                moved.note();
                for at in BEFORE..tail {
                    assert!(
                        matches!(log.state_at(at), EntryState::Filled(_)),
                        "nothing at {at}"
                    );
                }
            }
        });
        memory.publish(0, 2);
        reader.join().expect("no panic");
    });
    moved.assert("the tail had moved");
}
