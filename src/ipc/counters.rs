//! The counters of each member, in its slot: written by the member, readable by all.
//!
//! They are updated without a lock, and meant for people: figures that are read at the same time need not fit together
//! exactly.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::sync::{AtomicU64, Ordering};

const PUBLISHED: usize = 0;
const PUBLISHED_BYTES: usize = 1;
const WAKEUPS_SENT: usize = 2;
const WAKEUPS_RECEIVED: usize = 3;
const READ: usize = 4;
const MISSED: usize = 5;
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
/// Publishes that waited for readers, and the microseconds that they waited.
const WAITS: usize = 11;
const WAITED: usize = 12;
/// Messages that overflow policies have dropped for slow clients.
const DROPPED: usize = 13;

/// The counts of a member since it joined.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Records published.
    pub published: u64,
    /// Bytes of their frames.
    pub published_bytes: u64,
    /// Wake-ups sent to other members, or from one of its threads to another.
    pub wakeups_sent: u64,
    /// Wake-ups that ended a sleep of this member.
    pub wakeups_received: u64,
    /// Records read, by all its readers. Unwanted ones are not counted.
    pub read: u64,
    /// Records that its readers missed because they were overtaken. Unwanted ones are not counted.
    pub missed: u64,
    /// The next offset of its reader that is furthest behind. `None`: it has no reader.
    pub reader_offset: Option<u64>,
    /// Publishes that waited for hubs.
    pub waits: u64,
    /// Microseconds that publishes waited for hubs.
    pub waited_micros: u64,
    /// Messages that overflow policies have dropped, summed over its clients.
    pub dropped: u64,
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
        for (at, more) in [(PUBLISHED, 1), (PUBLISHED_BYTES, bytes as u64)] {
            let count = self.0[at].load(Ordering::Relaxed);
            self.0[at].store(count.wrapping_add(more), Ordering::Relaxed);
        }
    }

    pub(super) fn count_wakeup_sent(&self) {
        self.0[WAKEUPS_SENT].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_wakeup(&self) {
        self.0[WAKEUPS_RECEIVED].fetch_add(1, Ordering::Relaxed);
    }

    fn count_read(&self, read: u64, missed: u64) {
        self.0[READ].fetch_add(read, Ordering::Relaxed);
        self.0[MISSED].fetch_add(missed, Ordering::Relaxed);
    }

    /// Takes records that no client wanted out of the count of missed ones.
    pub(super) fn uncount_missed(&self, records: u64) {
        self.0[MISSED].fetch_sub(records, Ordering::Relaxed);
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

    pub(super) fn count_wait(&self, micros: u64) {
        self.0[WAITS].fetch_add(1, Ordering::Relaxed);
        self.0[WAITED].fetch_add(micros, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self, messages: u64) {
        self.0[DROPPED].fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let word = |at: usize| self.0[at].load(Ordering::Relaxed);
        Counts {
            published: word(PUBLISHED),
            published_bytes: word(PUBLISHED_BYTES),
            wakeups_sent: word(WAKEUPS_SENT),
            wakeups_received: word(WAKEUPS_RECEIVED),
            read: word(READ),
            missed: word(MISSED),
            reader_offset: word(READER_OFFSET).checked_sub(1),
            waits: word(WAITS),
            waited_micros: word(WAITED),
            dropped: word(DROPPED),
        }
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
            counters.count_read(self.read, self.missed);
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
        assert_eq!(counters.counts().reader_offset, None);
        offsets.replace(None, Some(5), counters);
        offsets.replace(None, Some(5), counters);
        offsets.replace(None, Some(9), counters);
        assert_eq!(counters.counts().reader_offset, Some(5));
        offsets.replace(Some(5), Some(12), counters);
        assert_eq!(counters.counts().reader_offset, Some(5));
        offsets.replace(Some(5), Some(12), counters);
        assert_eq!(counters.counts().reader_offset, Some(9));
        offsets.replace(Some(9), None, counters);
        offsets.replace(Some(12), None, counters);
        offsets.replace(Some(12), None, counters);
        assert_eq!(counters.counts().reader_offset, None);
    }
}
