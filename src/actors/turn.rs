//! What one turn of the loop brought from the bus, in bus order, in one contiguous arena.
//!
//! The frames of a record are copied here once; every session of the worker is served from here.
//! A session whose records lie side by side gets one plain write of that run. For a session that
//! is too slow, a record is made a shared [`Bytes`] once, whoever else waits for it.

use std::cell::OnceCell;
use std::ops::Range;

use bytes::Bytes;

/// At this many bytes the arena is delivered before more is read.
pub const MOST_BYTES: usize = 256 * 1024;

/// At this many records the turn is delivered before more is read.
pub const MOST_RECORDS: usize = 1024;

/// The records of one turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// The frames, one behind the other.
    pub arena: Vec<u8>,
    records: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    frame: Range<usize>,
    topic_hash: u64,
    offset: u64,
    /// Session key that this record is not for; 0: for everybody.
    left_out: u64,
    shared: OnceCell<Bytes>,
}

/// Index of a record in its turn.
pub type Index = u32;

impl Turn {
    /// Forgets the records; keeps the arena's memory unless one huge message made it large.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.arena.shrink_to(2 * MOST_BYTES);
        self.records.clear();
    }

    /// Has the turn as much as is delivered at once?
    pub fn is_full(&self) -> bool {
        self.arena.len() >= MOST_BYTES || self.records.len() >= MOST_RECORDS
    }

    /// Notes a record whose frame has just been appended to the arena.
    pub fn push(
        &mut self,
        frame: Range<usize>,
        topic_hash: u64,
        offset: u64,
        left_out: u64,
    ) -> Index {
        debug_assert!(frame.end <= self.arena.len(), "the frame is in the arena");
        let shared = OnceCell::new();
        self.records.push(Record {
            frame,
            topic_hash,
            offset,
            left_out,
            shared,
        });
        self.records.len() as Index - 1
    }

    /// Is any record not for everybody?
    pub fn leaves_somebody_out(&self, indexes: &[Index]) -> bool {
        indexes
            .iter()
            .any(|&index| self.records[index as usize].left_out != 0)
    }

    /// Is this record for the session `key`, which has subscribed at offset `from`?
    pub fn is_for(&self, index: Index, key: u64, from: u64) -> bool {
        let record = &self.records[index as usize];
        record.offset >= from && record.left_out != key
    }

    /// Offset of a record on the bus.
    pub fn offset(&self, index: Index) -> u64 {
        self.records[index as usize].offset
    }

    /// Hash of a record's topic.
    pub fn topic_hash(&self, index: Index) -> u64 {
        self.records[index as usize].topic_hash
    }

    /// Length of a record's frame.
    pub fn frame_len(&self, index: Index) -> usize {
        self.records[index as usize].frame.len()
    }

    /// The frame as bytes that live longer than the turn, made once.
    pub fn shared(&self, index: Index) -> Bytes {
        let record = &self.records[index as usize];
        let copy = || Bytes::copy_from_slice(&self.arena[record.frame.clone()]);
        record.shared.get_or_init(copy).clone()
    }

    /// The frames of `indexes`, one behind the other: a slice of the arena when they lie side by
    /// side, else a copy in `scratch`.
    pub fn contiguous<'a>(&'a self, indexes: &[Index], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let frame = |index: &Index| self.records[*index as usize].frame.clone();
        let (Some(first), Some(last)) = (indexes.first(), indexes.last()) else {
            return &[];
        };
        let span = frame(first).start..frame(last).end;
        let wanted: usize = indexes.iter().map(|index| frame(index).len()).sum();
        if wanted == span.len() {
            return &self.arena[span];
        }
        scratch.clear();
        for index in indexes {
            scratch.extend_from_slice(&self.arena[frame(index)]);
        }
        scratch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(frames: &[&str]) -> Turn {
        let mut turn = Turn::default();
        for (offset, frame) in (100..).zip(frames) {
            let start = turn.arena.len();
            turn.arena.extend_from_slice(frame.as_bytes());
            turn.push(start..turn.arena.len(), 7, offset, 0);
        }
        turn
    }

    #[test]
    fn neighbours_are_a_slice_of_the_arena_and_others_are_gathered_in_order() {
        let turn = turn(&["one", "two", "three"]);
        let mut scratch = Vec::new();
        assert_eq!(turn.contiguous(&[1, 2], &mut scratch), b"twothree");
        assert_eq!(scratch.capacity(), 0, "nothing was copied");
        assert_eq!(turn.contiguous(&[0, 2], &mut scratch), b"onethree");
        assert_eq!(turn.contiguous(&[], &mut scratch), b"");
    }

    #[test]
    fn a_shared_frame_is_copied_once() {
        let turn = turn(&["one", "two"]);
        let (first, second) = (turn.shared(1), turn.shared(1));
        assert_eq!(&first[..], b"two");
        assert_eq!(first.as_ptr(), second.as_ptr());
    }

    #[test]
    fn a_record_is_not_for_its_sender_nor_for_who_subscribed_later() {
        let mut turn = turn(&["one"]);
        let index = turn.push(0..3, 7, 101, 42);
        assert!(turn.is_for(index, 41, 101));
        assert!(!turn.is_for(index, 42, 101));
        assert!(!turn.is_for(index, 41, 102));
        assert!(turn.leaves_somebody_out(&[0, 1]) && !turn.leaves_somebody_out(&[0]));
    }
}
