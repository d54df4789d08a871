//! The data ring of one producer, over words: only its producer writes, all members read.
//!
//! The producer announces how far it is about to overwrite (`intent`) and writes the record. The log then tells
//! readers where it is. Nothing here waits for readers. A reader copies a record, and checks afterwards whether the
//! announcement had passed the copied bytes (a seqlock with a position as sequence number).
//!
//! Positions count bytes since the ring began, and wrap only in theory. A record never crosses the end of the memory.

use std::ops::Range;

use super::copy::{Packer, append};
use super::layout::{LINE_BYTES, RING_STEPS, WORD_BYTES};
use super::log::{LogEntry, POS_MASK};
use super::record::{Draft, HEADER_WORDS, RecordHeader, record_bytes};
use super::sync::{AtomicU64, Ordering, fence};

/// A frame may be this much longer than the largest message, because of its header.
pub(super) const FRAME_HEADER_BYTES: usize = 16;

/// Largest message of a ring of this size.
pub(super) const fn max_message_bytes(ring_bytes: usize) -> usize {
    ring_bytes / 4
}

/// The result of an attempt to read a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReadResult {
    /// The frame was appended to the reader's buffer, the topic put into its scratch.
    Record(RecordHeader),
    /// The reader does not want this topic. Nothing was copied.
    Unwanted,
    /// The record was overwritten, or the bytes there are not this record.
    Overwritten,
}

/// The data ring of one producer, over words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring<'a> {
    /// At least 512, and a power of two.
    words: &'a [AtomicU64],
    /// The position up to which the producer may have written. A multiple of 64. Bytes a ring length before it are
    /// overwritten.
    intent: &'a AtomicU64,
}

impl<'a> Ring<'a> {
    pub(super) fn new(words: &'a [AtomicU64], intent: &'a AtomicU64) -> Ring<'a> {
        debug_assert!(words.len().is_power_of_two() && (words.len() >= 512 || cfg!(loom)));
        Ring { words, intent }
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.words.len() * WORD_BYTES) as u64
    }

    /// The position where a new incarnation continues: behind all bytes that its predecessor may have touched.
    pub(super) fn resume(&self) -> u64 {
        let line = LINE_BYTES as u64;
        self.intent.load(Ordering::Relaxed).wrapping_add(line - 1) & !(line - 1)
    }

    /// The position for a record of `bytes` when the stream has reached `pos`: `pos` itself, or the start of the memory
    /// if the record would leave the first `usable` bytes. The gap needs no mark, because no process walks the ring.
    #[inline]
    pub(super) fn place(&self, pos: u64, bytes: usize, usable: u64) -> u64 {
        debug_assert!(bytes as u64 <= usable && usable <= self.bytes());
        let within = self.within(pos);
        if within + bytes as u64 <= usable {
            pos
        } else {
            pos.wrapping_add(self.bytes() - within)
        }
    }

    /// Bytes from the start of the memory to a position.
    #[inline]
    pub(super) fn within(&self, pos: u64) -> u64 {
        pos & (self.bytes() - 1)
    }

    /// Writes a record at `header.pos`, which [`Ring::place`] returned, and returns the position behind it. Only the
    /// producer calls this.
    #[inline]
    pub(super) fn write(&self, header: RecordHeader, draft: &Draft<'_>) -> u64 {
        let bytes = record_bytes(header.body_bytes());
        let end = header.pos.wrapping_add(bytes as u64);
        self.announce(end);
        let start = self.index(header.pos);
        let words = &self.words[start..start + bytes / WORD_BYTES];
        for (word, value) in words.iter().zip(header.to_words()) {
            word.store(value, Ordering::Relaxed);
        }
        let mut body = Packer::new(&words[HEADER_WORDS..]);
        body.write(draft.frame[0]);
        body.write(draft.frame[1]);
        body.write(draft.topic.as_bytes());
        body.finish();
        end
    }

    /// The steps of the ring that a record up to `end` overwrites, counted from the ring's beginning. Steps that were
    /// announced before do not count, nor do those of the first lap, which are empty.
    #[inline]
    pub(super) fn next_steps(&self, end: u64) -> Range<u64> {
        let announced = self.intent.load(Ordering::Relaxed);
        if (announced.wrapping_sub(end) as i64) < 0 {
            self.step(announced).max(RING_STEPS as u64)..self.step(end - 1) + 1
        } else {
            0..0
        }
    }

    /// The step in which a position lies.
    #[inline]
    pub(super) fn step(&self, pos: u64) -> u64 {
        // A shift: both are powers of two, which the compiler cannot know.
        pos >> (self.bytes().trailing_zeros() - RING_STEPS.trailing_zeros())
    }

    /// Announces that all bytes up to `end` may be overwritten. In steps of a 64th of the ring, not at every record:
    /// readers hold this line, and each store costs a trip between cores.
    #[inline]
    fn announce(&self, end: u64) {
        let announced = self.intent.load(Ordering::Relaxed);
        if (announced.wrapping_sub(end) as i64) < 0 {
            let step = self.bytes() / RING_STEPS as u64;
            let ahead = end.wrapping_add(step - 1) & !(step - 1);
            self.intent.store(ahead, Ordering::Relaxed);
            // [P1] Announce before overwriting. Pairs with [R2]: a reader that copied a byte written after this
            // sees the announcement.
            fence(Ordering::Release);
        }
    }

    /// Whether the record of this entry is still there. Cheap. The answer may be outdated at once.
    #[inline]
    pub(super) fn holds(&self, entry: LogEntry) -> bool {
        let written = self.intent.load(Ordering::Relaxed).wrapping_sub(entry.pos) & POS_MASK;
        written <= self.bytes()
    }

    /// Copies the record of the log's `entry` at `offset`: appends the frame to `frames`, and replaces `topic`.
    /// `wants` decides by the hash of the topic before the body is copied. If the record is just being overwritten, it
    /// may be called with a hash that no process published.
    #[inline]
    pub(super) fn read(
        &self,
        entry: LogEntry,
        offset: u64,
        wants: impl FnOnce(u64) -> bool,
        frames: &mut Vec<u8>,
        topic: &mut String,
    ) -> ReadResult {
        let Some((header, body)) = self.header(entry, offset) else {
            return ReadResult::Overwritten;
        };
        if !wants(header.topic_hash) {
            return if self.is_intact(&header) {
                ReadResult::Unwanted
            } else {
                ReadResult::Overwritten
            };
        }
        // Checked before the length is trusted: a length that was never written may lead to a part of the ring that
        // has no memory yet.
        let bytes = header.body_bytes();
        if bytes > body.len() * WORD_BYTES || !self.is_intact(&header) {
            return ReadResult::Overwritten;
        }
        let start = frames.len();
        append(body, bytes, frames);
        let topic_start = start + header.frame_len as usize;
        topic.clear();
        if self.is_intact(&header)
            && let Ok(name) = std::str::from_utf8(&frames[topic_start..])
        {
            topic.push_str(name);
            frames.truncate(topic_start);
            return ReadResult::Record(header);
        }
        frames.truncate(start);
        ReadResult::Overwritten
    }

    /// As [`Ring::read`], but only the topic. `scratch` is used as a buffer, and its content stays the same.
    #[cfg(not(loom))]
    pub(super) fn read_name(
        &self,
        entry: LogEntry,
        offset: u64,
        scratch: &mut Vec<u8>,
        topic: &mut String,
    ) -> ReadResult {
        let Some((header, body)) = self.header(entry, offset) else {
            return ReadResult::Overwritten;
        };
        let frame = header.frame_len as usize;
        let (first, skipped) = (frame / WORD_BYTES, frame % WORD_BYTES);
        let count = skipped + usize::from(header.topic_len);
        if first * WORD_BYTES + count > body.len() * WORD_BYTES || !self.is_intact(&header) {
            return ReadResult::Overwritten;
        }
        let start = scratch.len();
        append(&body[first..], count, scratch);
        topic.clear();
        let name = std::str::from_utf8(&scratch[start + skipped..]);
        let copied = match name {
            Ok(name) if self.is_intact(&header) => {
                topic.push_str(name);
                ReadResult::Record(header)
            }
            _ => ReadResult::Overwritten,
        };
        scratch.truncate(start);
        copied
    }

    /// The header of the record that the log has at `offset`, and all words behind it. `None`: the record is gone. It
    /// may be overwritten while it is read: only [`Ring::is_intact`] makes the header valid.
    #[inline(always)]
    #[allow(clippy::inline_always)] // measured: a call costs 13 of the 524 instructions of a read
    fn header(&self, entry: LogEntry, offset: u64) -> Option<(RecordHeader, &'a [AtomicU64])> {
        if !self.holds(entry) {
            return None;
        }
        // A position is a multiple of a line, and so is the ring: a whole line lies behind it.
        let words = &self.words[self.index(entry.pos)..];
        let header =
            RecordHeader::from_words(std::array::from_fn(|i| words[i].load(Ordering::Relaxed)));
        is_meant(&header, entry, offset).then(|| (header, &words[HEADER_WORDS..]))
    }

    /// Whether all bytes that were copied before belong to the record, and none to its successor.
    #[inline]
    fn is_intact(&self, header: &RecordHeader) -> bool {
        // [R2] Pairs with [P1].
        fence(Ordering::Acquire);
        self.intent.load(Ordering::Relaxed).wrapping_sub(header.pos) <= self.bytes()
    }

    /// The index of the word at a position.
    #[inline]
    fn index(&self, pos: u64) -> usize {
        self.within(pos) as usize / WORD_BYTES
    }
}

/// Whether this is the header of the record that the log's entry means.
#[inline]
fn is_meant(header: &RecordHeader, entry: LogEntry, offset: u64) -> bool {
    header.pos & POS_MASK == entry.pos
        && header.floor <= offset
        && header.topic_hash as u8 == entry.tag
        && header.topic_len > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::record::topic_hash;
    use proptest::prelude::*;

    const RING_BYTES: usize = 4096;

    struct Memory {
        words: Vec<AtomicU64>,
        intent: AtomicU64,
    }

    impl Memory {
        fn new() -> Memory {
            let words = RING_BYTES / WORD_BYTES;
            Memory {
                words: std::iter::repeat_with(|| AtomicU64::new(0))
                    .take(words)
                    .collect(),
                intent: AtomicU64::new(0),
            }
        }

        fn ring(&self) -> Ring<'_> {
            Ring::new(&self.words, &self.intent)
        }

        /// Writes a record behind the last one.
        fn write(&self, topic: &str, frame: &[u8]) -> LogEntry {
            let hash = topic_hash(topic.as_bytes());
            let header = RecordHeader {
                pos: self.ring().place(
                    self.ring().resume(),
                    record_bytes(topic.len() + frame.len()),
                    RING_BYTES as u64,
                ),
                floor: 0,
                topic_hash: hash,
                exclude_session: 7,
                frame_len: frame.len() as u32,
                topic_len: topic.len() as u8,
                flags: 3,
                incarnation: 1,
                seconds: 9,
            };
            let draft = Draft {
                topic,
                topic_hash: hash,
                flags: 3,
                exclude_session: 7,
                frame: [&frame[..frame.len() / 3], &frame[frame.len() / 3..]],
            };
            self.ring().write(header, &draft);
            LogEntry {
                tag: hash as u8,
                slot: 0,
                pos: header.pos & POS_MASK,
            }
        }

        fn read(&self, entry: LogEntry) -> Option<(Vec<u8>, String)> {
            let (mut frames, mut topic) = (b"before".to_vec(), String::new());
            match self
                .ring()
                .read(entry, 0, |_| true, &mut frames, &mut topic)
            {
                ReadResult::Record(_) => Some((frames.split_off(6), topic)),
                ReadResult::Unwanted => panic!("everything was wanted"),
                ReadResult::Overwritten => {
                    assert_eq!(frames, b"before");
                    None
                }
            }
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let memory = Memory::new();
        let entry = memory.write("room:lobby", b"hello, all of you");
        assert_eq!(
            memory.read(entry),
            Some((b"hello, all of you".to_vec(), "room:lobby".into()))
        );
    }

    #[test]
    fn an_unwanted_record_is_not_copied() {
        let memory = Memory::new();
        let entry = memory.write("room:lobby", b"hello");
        let (mut frames, mut topic) = (Vec::new(), String::from("before"));
        let copied = memory
            .ring()
            .read(entry, 0, |_| false, &mut frames, &mut topic);
        assert_eq!(
            (copied, frames.len(), topic.as_str()),
            (ReadResult::Unwanted, 0, "before")
        );
    }

    #[test]
    fn a_reader_refuses_bytes_that_were_announced_as_overwritten() {
        let memory = Memory::new();
        let entry = memory.write("a", b"hello");
        assert!(memory.read(entry).is_some());
        memory.intent.store(RING_BYTES as u64, Ordering::Relaxed);
        assert!(
            memory.read(entry).is_some(),
            "a ring's length written: the record is the oldest"
        );
        memory
            .intent
            .store(RING_BYTES as u64 + 64, Ordering::Relaxed);
        assert!(memory.read(entry).is_none());
    }

    #[test]
    fn a_record_overwritten_between_header_and_body_is_refused() {
        let memory = Memory::new();
        let entry = memory.write("a", b"hello");
        let overwrite = |_| {
            memory
                .intent
                .store(RING_BYTES as u64 + 64, Ordering::Relaxed);
            true
        };
        let (mut frames, mut topic) = (Vec::new(), String::new());
        let copied = memory
            .ring()
            .read(entry, 0, overwrite, &mut frames, &mut topic);
        assert_eq!((copied, frames), (ReadResult::Overwritten, Vec::new()));
    }

    #[test]
    fn a_record_of_another_offset_is_refused() {
        let memory = Memory::new();
        let entry = memory.write("a", b"hello");
        memory.words[1].store(1, Ordering::Relaxed); // its floor
        assert!(
            memory.read(entry).is_none(),
            "it was written after offset 0"
        );
    }

    #[test]
    fn a_topic_that_is_not_utf8_is_refused() {
        let memory = Memory::new();
        let entry = memory.write("ab", b"");
        memory.words[HEADER_WORDS].store(0xff, Ordering::Relaxed);
        assert!(memory.read(entry).is_none());
    }

    #[test]
    fn positions_go_on_past_the_end_of_their_type() {
        let memory = Memory::new();
        memory.intent.store(u64::MAX - 63, Ordering::Relaxed);
        let entry = memory.write("a", &[1; 100]);
        assert_eq!(memory.read(entry), Some((vec![1; 100], "a".into())));
        let entry = memory.write("a", b"over");
        assert_eq!(memory.read(entry), Some((b"over".to_vec(), "a".into())));
    }

    proptest! {
        #[test]
        fn the_ring_holds_the_newest_records_and_refuses_the_rest(
            sizes in prop::collection::vec(0_usize..1000, 1..60)
        ) {
            let memory = Memory::new();
            let mut written = Vec::new();
            for (number, size) in sizes.iter().enumerate() {
                let frame = vec![number as u8; *size];
                written.push((memory.write("topic", &frame), frame));
            }
            let end = memory.intent.load(Ordering::Relaxed);
            for (entry, frame) in written {
                let is_there = end - entry.pos <= RING_BYTES as u64;
                let read = memory.read(entry);
                prop_assert_eq!(read.is_some(), is_there);
                if let Some((bytes, _)) = read {
                    prop_assert_eq!(bytes, frame);
                }
            }
        }

        #[test]
        fn no_bytes_make_a_reader_panic(
            words in prop::collection::vec(any::<u64>(), RING_BYTES / WORD_BYTES),
            intent: u64, line in 0_u64..1 << 34, plausible: bool, sizes: u64,
        ) {
            let memory = Memory::new();
            for (word, value) in memory.words.iter().zip(words) {
                word.store(value, Ordering::Relaxed);
            }
            let pos = line * 64;
            if plausible {
                // Let the header pass its checks, so that the lengths are what is tested.
                let at = memory.ring().index(pos);
                memory.words[at].store(pos, Ordering::Relaxed);
                memory.words[at + 1].store(0, Ordering::Relaxed);
                memory.words[at + 4].store(sizes & 0xff_0000_1fff, Ordering::Relaxed);
            }
            let tag = memory.words[memory.ring().index(pos) + 2].load(Ordering::Relaxed) as u8;
            memory.intent.store(if plausible { pos + 64 } else { intent }, Ordering::Relaxed);
            let (mut frames, mut topic) = (Vec::new(), String::new());
            let _ = memory.ring().read(
                LogEntry { tag, slot: 0, pos }, 0, |_| true, &mut frames, &mut topic,
            );
            prop_assert!(frames.len() <= RING_BYTES);
        }
    }
}
