//! The records that one turn of the loop has read from the bus, in bus order, in one contiguous arena.
//!
//! The frames of a record are copied here once, and serve every session of the worker. A session whose records lie
//! side by side gets one plain write of that run. For a session that is too slow, a record is made a shared
//! [`Bytes`] once, for all sessions that wait for it.
//!
//! The first session that takes deflated messages deflates a record, for all such sessions of the worker: there are
//! two encodings of a record at most. A client with a smaller window gets that one too, if the message is no longer
//! than its window; else the plain one. The first event stream encodes a record as an event, for all streams of the
//! worker.

use std::cell::OnceCell;
use std::ops::Range;

use bytes::Bytes;

use super::deflate::{self, Encoding};
use super::queues::Gauge;
use super::sse;

/// At this many bytes the arena is delivered before more is read.
pub const MOST_BYTES: usize = 256 * 1024;

/// At this many records the turn is delivered before more is read.
pub const MOST_RECORDS: usize = 1024;

/// The records of one turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// The frames, one behind the other.
    pub arena: Vec<u8>,
    /// The epoch of the bus that all offsets belong to.
    epoch: u64,
    /// Counts the bytes that wait in queues.
    gauge: Gauge,
    records: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    frame: Range<usize>,
    topic_hash: u64,
    offset: u64,
    /// The key of the session that is excluded; 0: none.
    left_out: u64,
    shared: OnceCell<Bytes>,
    /// The frame, deflated. None inside: deflating would not make it smaller.
    deflated: OnceCell<Option<Bytes>>,
    /// The message as an event.
    event: OnceCell<Bytes>,
}

/// Frames in the form that goes to a socket, one behind the other.
#[derive(Copy, Clone, Debug)]
pub struct Run<'a> {
    /// The frames.
    pub bytes: &'a [u8],
    /// The encoding of all of them.
    pub encoding: Encoding,
}

/// Index of a record in its turn.
pub type Index = u32;

impl Turn {
    /// Without records. All offsets belong to this epoch; `gauge` counts the frames that wait.
    pub fn new(epoch: u64, gauge: Gauge) -> Self {
        Self {
            epoch,
            gauge,
            ..Self::default()
        }
    }

    /// Drops the records; retains the arena's memory unless one huge message made it large.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.arena.shrink_to(2 * MOST_BYTES);
        self.records.clear();
    }

    /// Does the turn have as many records or bytes as are delivered at once?
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
        let (shared, deflated, event) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        self.records.push(Record {
            frame,
            topic_hash,
            offset,
            left_out,
            shared,
            deflated,
            event,
        });
        self.records.len() as Index - 1
    }

    /// Drops the last record, whose frame began at `start`.
    pub fn pop(&mut self, start: usize) {
        self.records.pop();
        self.arena.truncate(start);
    }

    /// Does any record exclude a session?
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
    pub fn frame_len(&self, index: Index, encoding: Encoding) -> usize {
        self.frame(index, encoding).len()
    }

    /// The frame as bytes that live longer than the turn, made once.
    pub fn shared(&self, index: Index, encoding: Encoding) -> Bytes {
        if encoding == Encoding::Events {
            return self.event(index).clone();
        }
        if let Some(deflated) = self.deflated(index, encoding) {
            return deflated.clone();
        }
        let copy = || {
            let frame = self.frame(index, Encoding::Plain);
            self.gauge.hold(Bytes::copy_from_slice(frame))
        };
        let record = &self.records[index as usize];
        record.shared.get_or_init(copy).clone()
    }

    /// The frames of `indexes`, one behind the other: a slice of the arena when they lie side by side there, else a
    /// copy in `scratch`. For events it is empty: they wait one by one.
    pub fn run<'a>(
        &'a self,
        indexes: &[Index],
        encoding: Encoding,
        scratch: &'a mut Vec<u8>,
    ) -> Run<'a> {
        let bytes = match encoding {
            Encoding::Plain => self.slice(indexes),
            Encoding::Deflated(_) => None,
            Encoding::Events => Some(&[][..]),
        };
        let bytes = bytes.unwrap_or_else(|| {
            scratch.clear();
            for &index in indexes {
                scratch.extend_from_slice(self.frame(index, encoding));
            }
            scratch
        });
        Run { bytes, encoding }
    }

    /// The part of the arena that has exactly these frames, if there is one.
    fn slice(&self, indexes: &[Index]) -> Option<&[u8]> {
        let frame = |index: &Index| self.records[*index as usize].frame.clone();
        let (Some(first), Some(last)) = (indexes.first(), indexes.last()) else {
            return Some(&[]);
        };
        let span = frame(first).start..frame(last).end;
        let wanted: usize = indexes.iter().map(|index| frame(index).len()).sum();
        (wanted == span.len()).then(|| &self.arena[span])
    }

    fn frame(&self, index: Index, encoding: Encoding) -> &[u8] {
        if encoding == Encoding::Events {
            return self.event(index);
        }
        match self.deflated(index, encoding) {
            Some(deflated) => deflated,
            None => &self.arena[self.records[index as usize].frame.clone()],
        }
    }

    /// The message as an event. The first caller encodes it.
    fn event(&self, index: Index) -> &Bytes {
        let record = &self.records[index as usize];
        let write = || {
            let frame = &self.arena[record.frame.clone()];
            self.gauge
                .hold(sse::event(frame, self.epoch, record.offset))
        };
        record.event.get_or_init(write)
    }

    /// The deflated frame, if this encoding has one. The first caller deflates it.
    fn deflated(&self, index: Index, encoding: Encoding) -> Option<&Bytes> {
        let Encoding::Deflated(window) = encoding else {
            return None;
        };
        let record = &self.records[index as usize];
        let frame = &self.arena[record.frame.clone()];
        if !deflate::is_for_window(frame, window) {
            return None;
        }
        let deflate = || deflate::deflated(frame).map(|it| self.gauge.hold(it));
        record.deflated.get_or_init(deflate).as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::deflate::Window;

    const PLAIN: Encoding = Encoding::Plain;
    const DEFLATED: Encoding = Encoding::Deflated(Window::LARGEST);

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
        assert_eq!(turn.run(&[1, 2], PLAIN, &mut scratch).bytes, b"twothree");
        assert_eq!(scratch.capacity(), 0, "nothing was copied");
        assert_eq!(turn.run(&[0, 2], PLAIN, &mut scratch).bytes, b"onethree");
        assert_eq!(turn.run(&[], PLAIN, &mut scratch).bytes, b"");
    }

    #[test]
    fn a_shared_frame_is_copied_once() {
        let turn = turn(&["one", "two"]);
        let (first, second) = (turn.shared(1, PLAIN), turn.shared(1, PLAIN));
        assert_eq!(&first[..], b"two");
        assert_eq!(first.as_ptr(), second.as_ptr());
    }

    #[test]
    fn a_record_is_not_for_its_sender_nor_for_later_subscribers() {
        let mut turn = turn(&["one"]);
        let index = turn.push(0..3, 7, 101, 42);
        assert!(turn.is_for(index, 41, 101));
        assert!(!turn.is_for(index, 42, 101));
        assert!(!turn.is_for(index, 41, 102));
        assert!(turn.leaves_somebody_out(&[0, 1]) && !turn.leaves_somebody_out(&[0]));
    }

    #[test]
    fn a_record_is_written_as_an_event_once() {
        let mut turn = turn(&["\u{1}\u{2}hi"]);
        turn.arena[0] |= 0x80; // FIN, which is not a character
        turn.epoch = 9;
        assert!(
            turn.run(&[0], Encoding::Events, &mut Vec::new())
                .bytes
                .is_empty()
        );
        let (first, second) = (
            turn.shared(0, Encoding::Events),
            turn.shared(0, Encoding::Events),
        );
        assert_eq!(first, "id: 9-100\ndata: hi\n\n");
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_eq!(turn.frame_len(0, Encoding::Events), first.len());
        assert_eq!(turn.shared(0, PLAIN), b"\x81\x02hi"[..]);
    }

    #[test]
    fn a_record_is_deflated_once_and_only_for_clients_that_want_it_and_if_it_helps() {
        let large = format!("\u{1}\u{7e}\u{1}\0{}", "x".repeat(256));
        let mut turn = turn(&["\u{1}\u{2}hi", &large]);
        // The FIN bit, which is not a character.
        for index in [0, 1] {
            let start = turn.records[index].frame.start;
            turn.arena[start] |= 0x80;
        }
        let plain = turn.run(&[0, 1], PLAIN, &mut Vec::new()).bytes.to_vec();
        assert_eq!(plain, turn.arena);
        assert!(
            turn.records
                .iter()
                .all(|record| record.deflated.get().is_none())
        );

        let mut scratch = Vec::new();
        let run = turn.run(&[0, 1], DEFLATED, &mut scratch).bytes.to_vec();
        assert_eq!(run[..5], *b"\x81\x02hi\xC1", "too small, then deflated");
        assert_eq!(run.len(), 4 + turn.frame_len(1, DEFLATED));
        assert!(run.len() < 30 && turn.frame_len(1, PLAIN) == 260);
        let (first, second) = (turn.shared(1, DEFLATED), turn.shared(1, DEFLATED));
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_eq!(turn.shared(0, DEFLATED), turn.shared(0, PLAIN));
        assert_eq!(turn.shared(1, PLAIN), turn.arena[4..]);
    }

    #[test]
    fn a_smaller_window_gets_what_all_get_if_that_fits_it_and_plain_frames_otherwise() {
        let fits = [&b"\x81\x7E\x02\x00"[..], &[b'x'; 512]].concat();
        let exceeds = [&b"\x81\x7E\x02\x01"[..], &[b'x'; 513]].concat();
        let mut turn = Turn::default();
        for frame in [&fits, &exceeds] {
            let start = turn.arena.len();
            turn.arena.extend_from_slice(frame);
            turn.push(start..turn.arena.len(), 7, 100, 0);
        }
        let smallest = Encoding::Deflated(Window::new(9).expect("it can be kept"));
        let first = turn.shared(0, smallest);
        assert_eq!(first.as_ptr(), turn.shared(0, DEFLATED).as_ptr());
        assert_eq!(turn.shared(1, smallest), exceeds);
        assert_eq!(turn.frame_len(1, smallest), exceeds.len());
        let run = turn.run(&[0, 1], smallest, &mut Vec::new()).bytes.to_vec();
        assert_eq!(run, [&first[..], &exceeds].concat());
        assert!(turn.frame_len(1, DEFLATED) < 30);
    }
}
