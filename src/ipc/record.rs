//! The record: an entry on the bus, as a publisher passes it in, as a ring stores it, and as a reader gets it.
//!
//! This file knows bytes and words, and no shared memory.

use std::ops::Range;

use super::layout::{LINE_BYTES, MAX_TOPIC_BYTES, WORD_BYTES};

/// Words before a record's body.
pub(super) const HEADER_WORDS: usize = 6;

/// A member of the bus: one process that has it open (or one handle of such a process).
///
/// A slot is used again after its member left or died, with the next incarnation.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Member {
    /// The number of its slot in the member table, below 64.
    pub slot: u8,
    /// The number of members that the slot has had, this one included. Never 0.
    pub incarnation: u32,
}

/// A record that is about to be published.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// 1 to 255 bytes of UTF-8 without control characters.
    pub topic: &'a str,
    /// [`topic_hash`] of `topic`, which the caller usually has already.
    pub topic_hash: u64,
    /// Opaque to the bus. The layers above store the kind of the message here.
    pub flags: u8,
    /// Opaque to the bus: the session that sent the message and must not get it. 0: no session.
    pub exclude_session: u64,
    /// Frame header and payload. They are written one behind the other, so that callers need not concatenate them.
    pub frame: [&'a [u8]; 2],
}

impl Draft<'_> {
    /// Bytes of the whole frame.
    pub(super) fn frame_bytes(&self) -> usize {
        self.frame[0].len() + self.frame[1].len()
    }
}

/// The fields of a record that a reader gets besides its frame and topic.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordHead {
    /// The record's number in the order of all records.
    pub offset: u64,
    /// [`topic_hash`] of its topic.
    pub topic_hash: u64,
    /// As in the [`Draft`].
    pub flags: u8,
    /// As in the [`Draft`].
    pub exclude_session: u64,
    /// The member that published it.
    pub producer: Member,
    /// The range of the frame in the reader's buffer.
    pub frame: Range<usize>,
}

/// The hash of a topic's name, the same in every process and every build of one layout version.
///
/// Never 0. Its low 8 bits are the tag in the log, its low 15 bits the bucket of interest.
///
/// ```
/// # use fanbus::ipc::topic_hash;
/// assert_eq!(topic_hash(b"room:lobby"), 0x3719_e208_6fd0_8107);
/// assert_ne!(topic_hash(b"room:lobby"), topic_hash(b"room:Lobby"));
/// ```
pub fn topic_hash(topic: &[u8]) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    const FINAL: u64 = 0xbf58_476d_1ce4_e5b9;
    let mut hash = (topic.len() as u64).wrapping_mul(GOLDEN);
    for chunk in topic.chunks(WORD_BYTES) {
        let mut bytes = [0; WORD_BYTES];
        bytes[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(bytes)).wrapping_mul(GOLDEN);
        hash ^= hash >> 32;
    }
    hash = hash.wrapping_mul(FINAL);
    hash ^= hash >> 29;
    hash.max(1)
}

/// Whether `topic` may name a topic: 1 to 255 bytes, no control characters.
#[inline]
pub(super) fn is_topic(topic: &str) -> bool {
    let bytes = topic.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_TOPIC_BYTES {
        return false;
    }
    let (chunks, few) = bytes.as_chunks();
    let plain = chunks.iter().all(|chunk| are_printable(*chunk))
        && few.iter().all(|byte| (b' '..=b'~').contains(byte));
    plain || !topic.chars().any(char::is_control)
}

/// Whether all eight bytes are printable ASCII. May return false for some that are.
#[inline]
fn are_printable(bytes: [u8; WORD_BYTES]) -> bool {
    const EACH: u64 = u64::from_le_bytes([1; WORD_BYTES]);
    let word = u64::from_le_bytes(bytes);
    // The high bit of a byte is set where it is not ASCII, is DEL, or is below a space.
    let odd = word | word.wrapping_add(EACH) | word.wrapping_sub(EACH * 0x20);
    odd & (EACH * 0x80) == 0
}

/// The header of a record in a ring. Behind it comes the body: the frame, then the topic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RecordHeader {
    /// The position of the record in its ring. It tells the record that the log means from a later one at the same
    /// place.
    pub(super) pos: u64,
    /// A lower bound of the record's offset. It tells the record from one that the log meant 2^16 laps ago.
    pub(super) floor: u64,
    pub(super) topic_hash: u64,
    pub(super) exclude_session: u64,
    pub(super) frame_len: u32,
    pub(super) topic_len: u8,
    pub(super) flags: u8,
    pub(super) incarnation: u32,
    /// The time of its publication, see [`super::clock`]. 0: the bus had no retention rule.
    pub(super) seconds: u32,
}

impl RecordHeader {
    pub(super) fn to_words(self) -> [u64; HEADER_WORDS] {
        let sizes = u64::from(self.frame_len)
            | u64::from(self.topic_len) << 32
            | u64::from(self.flags) << 40;
        [
            self.pos,
            self.floor,
            self.topic_hash,
            self.exclude_session,
            sizes,
            u64::from(self.incarnation) | u64::from(self.seconds) << 32,
        ]
    }

    /// Every pattern of bits is a header. The reader has to check whether it is the right one.
    pub(super) fn from_words(words: [u64; HEADER_WORDS]) -> RecordHeader {
        let [pos, floor, topic_hash, exclude_session, sizes, life] = words;
        RecordHeader {
            pos,
            floor,
            topic_hash,
            exclude_session,
            frame_len: sizes as u32,
            topic_len: (sizes >> 32) as u8,
            flags: (sizes >> 40) as u8,
            incarnation: life as u32,
            seconds: (life >> 32) as u32,
        }
    }

    /// Bytes of frame and topic together.
    pub(super) fn body_bytes(&self) -> usize {
        self.frame_len as usize + usize::from(self.topic_len)
    }
}

/// Bytes that a record with a body of this size takes in its ring.
pub(super) fn record_bytes(body_bytes: usize) -> usize {
    (HEADER_WORDS * WORD_BYTES + body_bytes).next_multiple_of(LINE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_comes_back_from_its_words(
            ids in any::<[u64; 4]>(), frame_len in any::<u32>(), incarnation in any::<u32>(),
            topic_len in any::<u8>(), flags in any::<u8>(), seconds in any::<u32>(),
        ) {
            let [pos, floor, topic_hash, exclude_session] = ids;
            let header = RecordHeader {
                pos, floor, topic_hash, exclude_session, frame_len, topic_len, flags, incarnation,
                seconds,
            };
            prop_assert_eq!(RecordHeader::from_words(header.to_words()), header);
        }

        #[test]
        fn any_words_are_some_header(words in any::<[u64; HEADER_WORDS]>()) {
            let header = RecordHeader::from_words(words);
            prop_assert!(header.body_bytes() <= u32::MAX as usize + MAX_TOPIC_BYTES);
        }

        #[test]
        fn short_topics_never_share_a_hash(a in any::<[u8; 7]>(), b in any::<[u8; 7]>()) {
            prop_assert_eq!(a == b, topic_hash(&a) == topic_hash(&b));
        }
    }

    #[test]
    fn the_hash_of_a_topic_is_part_of_the_layout() {
        // These values may only change together with `layout::VERSION`.
        assert_eq!(topic_hash(b""), 1);
        assert_eq!(topic_hash(b"a"), 0x633b_2c12_1b5e_20dd);
        assert_eq!(topic_hash(b"room:lobby"), 0x3719_e208_6fd0_8107);
        assert_eq!(topic_hash(&[b'x'; 255]), 0x7ec5_5331_32a2_1b67);
    }

    #[test]
    fn hashes_spread_over_tags_and_buckets() {
        let mut tags = [0_u32; 256];
        let mut buckets = std::collections::HashSet::new();
        for number in 0..4096 {
            let hash = topic_hash(format!("room:{number}").as_bytes());
            tags[(hash & 255) as usize] += 1;
            buckets.insert(hash & 32_767);
        }
        let (least, most) = (tags.iter().min(), tags.iter().max());
        assert!(least > Some(&2) && most < Some(&40), "{least:?} {most:?}");
        // Random hashes would fill 3,850 of the 32,768 buckets.
        assert!(buckets.len() > 3700, "{}", buckets.len());
    }

    #[test]
    fn topics_have_a_length_and_no_control_characters() {
        for good in [
            "a",
            "room:lobby",
            "räume/größe",
            "with space",
            &"x".repeat(255),
        ] {
            assert!(is_topic(good), "{good:?}");
        }
        for bad in [
            "",
            "line\nbreak",
            "nul\0",
            "del\u{7f}",
            "c1\u{85}",
            &"x".repeat(256),
        ] {
            assert!(!is_topic(bad), "{bad:?}");
        }
    }

    #[test]
    fn control_characters_are_found_at_every_position() {
        for (byte, place) in (0..128_u8).flat_map(|byte| (0..20).map(move |place| (byte, place))) {
            let mut name = [b'x'; 20];
            name[place] = byte;
            let name = std::str::from_utf8(&name).expect("ASCII");
            assert_eq!(is_topic(name), !byte.is_ascii_control(), "{name:?}");
        }
    }

    #[test]
    fn records_fill_whole_lines() {
        assert_eq!(record_bytes(16), 64);
        assert_eq!(record_bytes(17), 128);
        assert_eq!(record_bytes(0), 64);
    }
}
