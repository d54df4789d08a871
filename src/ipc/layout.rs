//! The layout of a segment: offsets, sizes, limits, version. `docs/bus.md` is the same in prose.
//!
//! A segment is one array of 64-bit words. [`Layout`] holds the sizes that differ from segment to segment.

use std::ops::Range;

/// Changes whenever a word of the layout, or the meaning of one, changes.
pub(super) const VERSION: u64 = 4;
/// "FANBUS" and two zero bytes, read as a little-endian word. Written last by the creator.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"FANBUS\0\0");

/// Members at once. A member is one bit of a 64-bit mask.
pub const MAX_MEMBERS: usize = 64;
/// Longest name of a bus, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 64;
/// Longest name of a topic, in bytes of UTF-8.
pub const MAX_TOPIC_BYTES: usize = 255;
/// Retention rules that a bus can have.
pub const MAX_RULES: usize = 64;
/// Buckets of interest, 256 KiB. A worker is also woken for a topic without subscribers there, if another topic of the
/// same bucket has one. A worker with 1,250 topics is woken by 4 of 100 such messages; with 4,096 buckets by 26.
pub(super) const INTEREST_BUCKETS: usize = 32_768;

/// Records start at multiples of this, one cache line.
pub(super) const LINE_BYTES: usize = 64;
/// Bytes of a page. Parts that are reserved separately are aligned to it.
pub(super) const PAGE_BYTES: usize = 4096;
/// Words with different writers are this far apart: x86 fetches lines in pairs, and some ARM cores have 128-byte
/// lines.
const APART_WORDS: usize = 128 / WORD_BYTES;
/// Bytes of a word.
pub(super) const WORD_BYTES: usize = 8;

// The first page: words that the creator writes once, while it holds the door.
pub(super) const MAGIC_AT: usize = 0;
pub(super) const VERSION_AT: usize = 1;
pub(super) const RING_BYTES_AT: usize = 2;
pub(super) const LOG_ENTRIES_AT: usize = 3;
pub(super) const HISTORY_BYTES_AT: usize = 4;
pub(super) const EPOCH_AT: usize = 5;
/// Checksum of the five words before it.
pub(super) const CHECK_AT: usize = 6;
/// Whether the bus was removed or damaged, see [`Fate`](super::parts::Fate). Written once, before the name is unlinked.
pub(super) const FATE_AT: usize = 7;
// Two words of the first page that are written all the time.
pub(super) const TAIL_AT: usize = APART_WORDS;
pub(super) const PARKED_AT: usize = 2 * APART_WORDS;
/// The head of the history.
pub(super) const HISTORY_AT: usize = 3 * APART_WORDS;
/// Words of that head.
pub(super) const HISTORY_HEAD_WORDS: usize = 9;
/// The number of retention rules. Read by every publisher, hardly ever written.
pub(super) const RULES_AT: usize = HISTORY_AT + APART_WORDS;
/// The slots that are reserved for the processes of a server, see [`super::reservation`]. Read and written by holders
/// of the door.
pub(super) const RESERVED_AT: usize = RULES_AT + 1;

pub(super) const INTEREST_AT: usize = PAGE_BYTES / WORD_BYTES;
pub(super) const MEMBERS_AT: usize = INTEREST_AT + INTEREST_BUCKETS;
/// Words of one member's slot: four groups of 128 bytes.
pub(super) const MEMBER_WORDS: usize = 4 * APART_WORDS;
pub(super) const LOG_AT: usize = MEMBERS_AT + MAX_MEMBERS * MEMBER_WORDS;

// Words of a member's slot, grouped by their writer.
/// Written by the member when it parks, and compare-and-swapped by the processes that wake it.
pub(super) const WAKE: usize = 0;
/// Written by the member as a producer: the position up to which it may have overwritten its ring.
pub(super) const INTENT: usize = APART_WORDS;
/// Written by the holder of the slot's token: free or taken, and the identity of the member.
pub(super) const STATE: usize = 2 * APART_WORDS;
pub(super) const INCARNATION: usize = STATE + 1;
pub(super) const PID: usize = STATE + 2;
pub(super) const START_TIME: usize = STATE + 3;
pub(super) const PIPE_FD: usize = STATE + 4;
pub(super) const PIPE_INODE: usize = STATE + 5;
/// Written by the member, but for one word: see [`super::counters`].
pub(super) const COUNTERS: usize = 3 * APART_WORDS;
/// Words of a member's counters.
pub(super) const COUNTER_WORDS: usize = 16;

/// Smallest and largest ring. In a smaller one no useful message fits; positions in a larger one would not fit.
pub(super) const RING_BYTES: Range<usize> = 4096..(1 << 30) + 1;
/// Smallest and largest log.
pub(super) const LOG_ENTRIES: Range<usize> = 64..(1 << 24) + 1;
/// The log stores positions modulo 2^40. An entry in the log must mean exactly one position, so the log times the
/// largest record stays below that.
pub(super) const RING_TIMES_LOG: usize = 1 << 41;
/// A producer announces in this number of steps how far it overwrites its ring.
pub(super) const RING_STEPS: usize = 64;
/// Smallest history: the rules and a hundred blocks.
pub(super) const MIN_HISTORY_BYTES: usize = 128 << 10;
/// Largest history. Its blocks are numbered with 24 bits.
pub(super) const MAX_HISTORY_BYTES: usize = 8 << 30;

/// Offsets stay below this, so that no arithmetic on them can overflow, whatever the memory contains. At ten million
/// records a second it lasts 14,000 years.
pub(super) const MAX_OFFSET: u64 = 1 << 62;

const _: () = assert!(
    (LOG_AT * WORD_BYTES).is_multiple_of(PAGE_BYTES),
    "the log starts on a page"
);
const _: () = assert!(
    RESERVED_AT < INTEREST_AT && FATE_AT < TAIL_AT && HISTORY_HEAD_WORDS <= APART_WORDS,
    "parts do not overlap"
);
const _: () = assert!(PIPE_INODE < COUNTERS && COUNTERS + COUNTER_WORDS == MEMBER_WORDS);
const _: () = assert!(
    MAX_MEMBERS <= u64::BITS as usize,
    "a member is a bit of a mask"
);
const _: () = assert!(usize::BITS == 64, "64 rings want more addresses");
const _: () = assert!(
    cfg!(target_endian = "little"),
    "the layout is little-endian"
);

/// Bytes of a ring that are reserved when its member joins. The largest record, which is a quarter of a ring and
/// some headers, fits.
pub(super) fn first_bytes(ring_bytes: usize) -> usize {
    let bytes = ring_bytes / 4 + ring_bytes / RING_STEPS;
    bytes.next_multiple_of(PAGE_BYTES).min(ring_bytes)
}

/// The sizes of a segment. Those of ring and log are powers of two within their limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Layout {
    ring_bytes: usize,
    log_entries: usize,
    /// 0: there is no history.
    history_bytes: usize,
    /// Bytes up to the end of the log, where the rings begin. Derived from the other sizes.
    fixed_bytes: usize,
}

impl Layout {
    /// The layout of these sizes, without a history. `None` if a size is not a power of two within its limits, or if
    /// both are too large together.
    pub(super) fn new(ring_bytes: usize, log_entries: usize) -> Option<Layout> {
        let sound = RING_BYTES.contains(&ring_bytes)
            && LOG_ENTRIES.contains(&log_entries)
            && ring_bytes.is_power_of_two()
            && log_entries.is_power_of_two()
            && ring_bytes * log_entries <= RING_TIMES_LOG;
        sound.then(|| Layout {
            ring_bytes,
            log_entries,
            history_bytes: 0,
            fixed_bytes: ((LOG_AT + log_entries) * WORD_BYTES).next_multiple_of(PAGE_BYTES),
        })
    }

    /// The same layout with a history of `bytes`, rounded down to pages. 0: no history. `None` outside the limits.
    pub(super) fn with_history(self, bytes: usize) -> Option<Layout> {
        let sound = bytes == 0 || (MIN_HISTORY_BYTES..=MAX_HISTORY_BYTES).contains(&bytes);
        sound.then_some(Layout {
            history_bytes: bytes / PAGE_BYTES * PAGE_BYTES,
            ..self
        })
    }

    pub(super) fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    pub(super) fn log_entries(&self) -> usize {
        self.log_entries
    }

    pub(super) fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// Bytes up to the end of the log, which the creator reserves.
    pub(super) fn fixed_bytes(&self) -> usize {
        self.fixed_bytes
    }

    /// The bytes of one member's ring in the segment.
    pub(super) fn ring_range(&self, slot: u8) -> Range<usize> {
        let start = self.fixed_bytes + usize::from(slot) * self.ring_bytes;
        start..start + self.ring_bytes
    }

    /// The bytes of a ring that are reserved when its member joins.
    pub(super) fn first_range(&self, slot: u8) -> Range<usize> {
        let start = self.ring_range(slot).start;
        start..start + first_bytes(self.ring_bytes)
    }

    /// The bytes of the history, which the member that makes the first rule reserves.
    pub(super) fn history_range(&self) -> Range<usize> {
        let start = self.fixed_bytes + MAX_MEMBERS * self.ring_bytes;
        start..start + self.history_bytes
    }

    /// Bytes of the whole segment. Most of them are never reserved.
    pub(super) fn total_bytes(&self) -> usize {
        self.history_range().end
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ipc::sync::AtomicU64;

    /// A segment's words in ordinary memory, all zero, as a new segment's are.
    pub(in super::super) fn plain_words(layout: Layout) -> Vec<AtomicU64> {
        let words = layout.total_bytes() / WORD_BYTES;
        std::iter::repeat_with(|| AtomicU64::new(0))
            .take(words)
            .collect()
    }

    #[test]
    fn sizes_outside_their_limits_are_refused() {
        assert!(Layout::new(8 << 20, 1 << 16).is_some());
        assert!(Layout::new(4096, 64).is_some());
        for (ring_bytes, log_entries) in [
            (0, 64),
            (2048, 64),
            (5000, 64),
            (4096, 0),
            (4096, 65),
            (1 << 31, 64),
            (1 << 30, 1 << 12),
            (4096, usize::MAX),
            (usize::MAX, usize::MAX),
        ] {
            assert_eq!(
                Layout::new(ring_bytes, log_entries),
                None,
                "{ring_bytes} {log_entries}"
            );
        }
    }

    #[test]
    fn the_parts_of_a_segment_lie_side_by_side() {
        let layout = Layout::new(8 << 20, 1 << 16).expect("the default");
        assert_eq!(LOG_AT * WORD_BYTES, 299_008);
        assert_eq!(layout.fixed_bytes(), 299_008 + (512 << 10));
        assert_eq!(layout.ring_range(0).start, layout.fixed_bytes());
        assert_eq!(layout.ring_range(63).end, layout.total_bytes());
        assert_eq!(layout.ring_range(7).end, layout.ring_range(8).start);
    }
}
