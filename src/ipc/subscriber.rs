//! The subscriber: one reader of the bus, with its own offset in the order of all records.

use std::time::{Duration, Instant};

use super::bus::Bus;
use super::counters::ReaderTally;
use super::cursor::{Cursor, Next};
use super::wait_queue::SAFETY_TICK;

/// One reader of the bus, with its own offset in the order of all records. It keeps the bus open.
#[derive(Debug)]
pub struct Subscriber {
    bus: Bus,
    cursor: Cursor,
    tally: ReaderTally,
}

impl Subscriber {
    pub(super) fn new(bus: Bus, offset: u64) -> Subscriber {
        let offsets = &bus.shared.reader_offsets;
        offsets.replace(None, Some(offset), bus.counters());
        Subscriber {
            bus,
            cursor: Cursor::new(offset),
            tally: ReaderTally::new(offset),
        }
    }

    /// The next offset to read.
    pub fn offset(&self) -> u64 {
        self.cursor.offset()
    }

    /// The next wanted record. Its frame is appended to `frames`, and nothing else is.
    ///
    /// `wants` decides by the hash of the topic, before a byte of the frame is copied. It may be called for records
    /// that turn out to be overwritten. Different topics can share a hash: compare [`Subscriber::topic`].
    #[inline]
    pub fn next(&mut self, wants: impl FnMut(u64) -> bool, frames: &mut Vec<u8>) -> Next {
        let next = self.cursor.next(self.bus.parts(), wants, frames);
        let reports = match &next {
            Next::Record(_) => self.tally.count_read(),
            Next::Lagged(missed) => {
                self.tally.count_missed(*missed);
                true
            }
            Next::Empty => {
                self.bus.note_read_up_to(self.cursor.offset());
                true
            }
            Next::Skipped => false,
        };
        if reports {
            self.report();
        }
        next
    }

    /// Updates the counters of this member.
    #[inline]
    fn report(&mut self) {
        if !self.bus.is_forked() {
            let offset = self.cursor.offset();
            let offsets = &self.bus.shared.reader_offsets;
            self.tally.report(offset, offsets, self.bus.counters());
        }
    }

    /// Takes records of the last [`Next::Lagged`] out of the count of missed ones, because no client wanted them.
    pub fn uncount_missed(&self, missed: u64) {
        if !self.bus.is_forked() {
            self.bus.counters().uncount_missed(missed);
        }
    }

    /// The current end of the bus. A reader that stops there calls [`Subscriber::report_offset`].
    pub fn end(&self) -> u64 {
        self.bus.parts().log().end(self.cursor.offset())
    }

    /// Publishes the offset of this reader in the counters of the member, because it has read enough for now.
    pub fn report_offset(&mut self) {
        self.bus.note_read_up_to(self.cursor.offset());
        self.report();
    }

    /// The topic of the record that [`Subscriber::next`] returned last.
    pub fn topic(&self) -> &str {
        self.cursor.topic()
    }

    /// Sets the tags to read: bit `t` (of 256, lowest first) stands for topic hashes whose low 8 bits are `t`. Records
    /// of other tags are passed by without touching them. At first all are set.
    ///
    /// Records of other tags do not count as missed, as far as their tags could still be read.
    pub fn set_tags(&mut self, tags: [u64; 4]) {
        self.cursor.set_tags(tags);
    }

    /// The tags of the records of the last [`Next::Lagged`], as in [`Subscriber::set_tags`]. A topic with another tag
    /// has missed nothing.
    pub fn missed_tags(&self) -> [u64; 4] {
        self.cursor.missed_tags()
    }

    /// Waits until there is something to read, at most for `timeout`. False: there is nothing yet.
    ///
    /// Blocks this thread. Records of topics of [`Bus::add_interest`] wake it at once, others within a quarter of a
    /// second. Any number of threads may wait, each with its own subscriber. A process whose event loop parks through
    /// [`Bus::parker`] waits there instead.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if self.bus.parker().has_record_at(self.offset()) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.bus.is_forked() {
                return false;
            }
            self.bus.sleep_for(self.offset(), left.min(SAFETY_TICK));
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if !self.bus.is_forked() {
            let offset = Some(self.tally.reader_offset());
            let offsets = &self.bus.shared.reader_offsets;
            offsets.replace(offset, None, self.bus.counters());
        }
    }
}
