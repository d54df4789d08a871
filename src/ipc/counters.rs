//! The counters of each member, in its slot: written by the member, readable by all.
//!
//! They are updated without a lock, and meant for people: figures that are read at the same time need not fit together
//! exactly.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::layout::COUNTER_WORDS;
use super::sync::{AtomicU64, Ordering};

/// Declares the counters: word, key for programs, unit, column and help for people.
macro_rules! counters {
    ($($name:ident = $word:literal, $key:literal, $unit:ident, $column:literal, $help:literal;)*) => {
        /// A number that each member counts. `fanbus bus show` prints all of them.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[repr(usize)]
        pub enum Counter {
            $(#[doc = $help] $name = $word,)*
        }

        impl Counter {
            /// All counters, in the order in which people read them.
            pub const ALL: &[Counter] = &[$(Counter::$name,)*];

            /// The texts about it.
            pub const fn description(self) -> Description {
                match self {
                    $(Counter::$name => Description {
                        key: $key,
                        unit: Unit::$unit,
                        column: $column,
                        help: $help,
                    },)*
                }
            }
        }
    };
}

// To add a counter, add a line here with a free word, and call `Bus::count` where it happens. The layout of the bus
// stays the same, because no older version has used that word.
counters! {
    Published = 0, "published", Count, "PUBLISHED", "messages that it has published";
    PublishedBytes = 1, "published_bytes", Bytes, "BYTES", "size of these messages";
    Read = 4, "read", Count, "READ", "messages that its readers have read, without those that no client wanted";
    Missed = 5, "missed", Count, "MISSED",
        "messages that were overwritten before it had read them, while it had subscribers: an upper limit of the messages that its subscribers missed";
    WakeupsReceived = 3, "woken", Count, "WOKEN", "how often another process has woken it up";
    WakeupsSent = 2, "woke", Count, "WOKE", "how often it has woken up another process, or one of its threads another one";
    Waits = 11, "waits", Count, "WAITS", "how often its publishers have waited for slow readers";
    WaitedMicros = 12, "waited_micros", Micros, "WAITED", "time that its publishers have waited for slow readers";
    Dropped = 13, "dropped", Count, "DROPPED",
        "messages that were dropped for slow clients, because overflow= of their route allows it";
}

/// The texts about a counter.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Its name for programs.
    pub key: &'static str,
    /// The unit of its number.
    pub unit: Unit,
    /// The head of its column.
    pub column: &'static str,
    /// A phrase without a full stop.
    pub help: &'static str,
}

/// The unit of a counter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Events.
    Count,
    /// Bytes.
    Bytes,
    /// Microseconds.
    Micros,
}

// The other words of a member.

/// The offset of the member's reader that is furthest behind, plus 1. 0: it has none.
const READER_OFFSET: usize = 6;
/// The offset of the reader that publishers may wait for, plus 1. 0: there is none. See [`super::pace`].
const PACE: usize = 7;
/// Changes whenever that reader makes progress. Its value has no meaning.
const BEAT: usize = 8;
/// The thread id of that reader. 0: not known.
const THREAD: usize = 9;
/// The beat at which a publisher stopped waiting for that reader, because it made no progress, plus 1. 0: no publisher
/// has since the reader last caught up. Written by other members.
const ABANDONED: usize = 10;

const OTHER_WORDS: [usize; 5] = [READER_OFFSET, PACE, BEAT, THREAD, ABANDONED];
const WORDS: usize = Counter::ALL.len() + OTHER_WORDS.len();

// Each word has one meaning, and no word is left out.
const _: () = {
    assert!(WORDS <= COUNTER_WORDS);
    let mut used = [false; WORDS];
    let mut at = 0;
    while at < WORDS {
        let word = if at < OTHER_WORDS.len() {
            OTHER_WORDS[at]
        } else {
            Counter::ALL[at - OTHER_WORDS.len()] as usize
        };
        assert!(!used[word]);
        used[word] = true;
        at += 1;
    }
};

/// The counts of a member since it joined.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    words: [u64; WORDS],
}

impl Counts {
    /// The count of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.words[counter as usize]
    }

    /// The next offset of its reader that is furthest behind. `None`: it has no reader.
    pub fn reader_offset(&self) -> Option<u64> {
        self.words[READER_OFFSET].checked_sub(1)
    }
}

/// The counters of one member, over words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counters<'a>(&'a [AtomicU64]);

impl<'a> Counters<'a> {
    pub(super) fn new(words: &'a [AtomicU64]) -> Counters<'a> {
        Counters(words)
    }

    /// Sets all to 0, for a new incarnation of the slot.
    pub(super) fn reset(&self) {
        for word in self.0 {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Counts one record. The caller holds the lock of the ring, so there is one writer.
    #[inline]
    pub(super) fn count_published(&self, bytes: usize) {
        for (counter, more) in [
            (Counter::Published, 1),
            (Counter::PublishedBytes, bytes as u64),
        ] {
            let word = &self.0[counter as usize];
            let count = word.load(Ordering::Relaxed);
            word.store(count.wrapping_add(more), Ordering::Relaxed);
        }
    }

    pub(super) fn add(&self, counter: Counter, more: u64) {
        self.0[counter as usize].fetch_add(more, Ordering::Relaxed);
    }

    /// Takes records that no client wanted out of the count of missed ones.
    pub(super) fn uncount_missed(&self, records: u64) {
        self.0[Counter::Missed as usize].fetch_sub(records, Ordering::Relaxed);
    }

    fn set_reader_offset(&self, reader_offset: Option<u64>) {
        self.0[READER_OFFSET].store(reader_offset.map_or(0, |it| it + 1), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn set_pace(&self, offset: Option<u64>) {
        self.0[PACE].store(offset.map_or(0, |it| it.wrapping_add(1)), Ordering::Relaxed);
    }

    pub(super) fn pace(&self) -> Option<u64> {
        self.0[PACE].load(Ordering::Relaxed).checked_sub(1)
    }

    /// Notes that the reader with a pace has made progress. There is one writer.
    #[inline]
    pub(super) fn advance_beat(&self) {
        let beat = self.beat();
        self.0[BEAT].store(beat.wrapping_add(1), Ordering::Relaxed);
    }

    pub(super) fn beat(&self) -> u64 {
        self.0[BEAT].load(Ordering::Relaxed)
    }

    pub(super) fn set_thread(&self, id: u64) {
        self.0[THREAD].store(id, Ordering::Relaxed);
    }

    pub(super) fn thread(&self) -> u64 {
        self.0[THREAD].load(Ordering::Relaxed)
    }

    /// Notes that a process stopped waiting for this reader, which made no progress since that beat.
    pub(super) fn abandon(&self, beat: u64) {
        self.0[ABANDONED].store(beat.wrapping_add(1), Ordering::Relaxed);
    }

    /// Notes that this reader has caught up, so that publishers wait for it again.
    pub(super) fn clear_abandoned(&self) {
        self.0[ABANDONED].store(0, Ordering::Relaxed);
    }

    /// The beat at which a process last stopped waiting for this reader.
    pub(super) fn abandoned_at(&self) -> Option<u64> {
        self.0[ABANDONED].load(Ordering::Relaxed).checked_sub(1)
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (count, word) in counts.words.iter_mut().zip(self.0) {
            *count = word.load(Ordering::Relaxed);
        }
        counts
    }
}

/// The offsets of all readers of this process, each with the number of readers there.
#[derive(Debug, Default)]
pub(super) struct ReaderOffsets(Mutex<BTreeMap<u64, usize>>);

impl ReaderOffsets {
    /// Moves a reader from one offset to another: from none when it begins, to none when it ends.
    pub(super) fn replace(&self, from: Option<u64>, to: Option<u64>, counters: Counters<'_>) {
        let mut offsets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(to) = to {
            *offsets.entry(to).or_default() += 1;
        }
        if let Some(from) = from
            && let Some(count) = offsets.get_mut(&from)
        {
            *count -= 1;
            if *count == 0 {
                offsets.remove(&from);
            }
        }
        counters.set_reader_offset(offsets.keys().next().copied());
    }
}

/// The counts of one reader since its last report.
#[derive(Debug)]
pub(super) struct ReaderTally {
    read: u64,
    missed: u64,
    reader_offset: u64,
}

/// A busy reader reports its counts after this many records.
const REPORT_AFTER: u64 = 256;

impl ReaderTally {
    pub(super) fn new(reader_offset: u64) -> ReaderTally {
        ReaderTally {
            read: 0,
            missed: 0,
            reader_offset,
        }
    }

    pub(super) fn reader_offset(&self) -> u64 {
        self.reader_offset
    }

    /// Counts one record. True: it is time for a report.
    #[inline]
    pub(super) fn count_read(&mut self) -> bool {
        self.read += 1;
        self.read >= REPORT_AFTER
    }

    pub(super) fn count_missed(&mut self, missed: u64) {
        self.missed += missed;
    }

    /// Adds the counts to the counters of the member, if the reader has moved.
    #[inline]
    pub(super) fn report(
        &mut self,
        reader_offset: u64,
        offsets: &ReaderOffsets,
        counters: Counters<'_>,
    ) {
        if reader_offset != self.reader_offset {
            offsets.replace(Some(self.reader_offset), Some(reader_offset), counters);
            counters.add(Counter::Read, self.read);
            counters.add(Counter::Missed, self.missed);
            *self = ReaderTally::new(reader_offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::layout::COUNTER_WORDS;

    #[test]
    fn the_reported_offset_is_that_of_the_slowest_reader() {
        let words: Vec<_> = std::iter::repeat_with(|| AtomicU64::new(0))
            .take(COUNTER_WORDS)
            .collect();
        let counters = Counters::new(&words);
        let offsets = ReaderOffsets::default();
        assert_eq!(counters.counts().reader_offset(), None);
        offsets.replace(None, Some(5), counters);
        offsets.replace(None, Some(5), counters);
        offsets.replace(None, Some(9), counters);
        assert_eq!(counters.counts().reader_offset(), Some(5));
        offsets.replace(Some(5), Some(12), counters);
        assert_eq!(counters.counts().reader_offset(), Some(5));
        offsets.replace(Some(5), Some(12), counters);
        assert_eq!(counters.counts().reader_offset(), Some(9));
        offsets.replace(Some(9), None, counters);
        offsets.replace(Some(12), None, counters);
        offsets.replace(Some(12), None, counters);
        assert_eq!(counters.counts().reader_offset(), None);
    }
}
