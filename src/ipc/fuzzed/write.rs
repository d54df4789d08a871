//! Damage: one word of a segment that somebody other than Fanbus writes, at a place that matters.

use arbitrary::Arbitrary;

use crate::ipc::layout::{
    HISTORY_AT, INTEREST_AT, INTEREST_BUCKETS, LOG_AT, MAX_MEMBERS, MEMBER_WORDS, MEMBERS_AT,
    PARKED_AT, TAIL_AT, WORD_BYTES,
};
use crate::ipc::log::EntryState;
use crate::ipc::parts::Parts;
use crate::ipc::sync::{AtomicU64, Ordering};

/// Where. Noise over a whole segment would fall on rings that nobody reads; these are hit as often
/// as each other.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Place {
    /// The first words of the first page.
    Header(u8),
    Tail,
    Parked,
    Interest(u16),
    /// Any word of a member's slot.
    Member(u8, u8),
    /// The log's word so many before its end. 0: the one that comes next.
    Entry(u8),
    /// A word of the record which the log has so many before its end.
    Record(u8, u8),
    Any(u32),
    /// The first words of the history's head.
    HistoryHead(u8),
    /// Any word of a history: its rules, hashes, topics or blocks.
    History(u16),
}

impl Place {
    /// Index of the word, whatever state the memory is in.
    fn index(self, parts: Parts<'_>) -> usize {
        let log = parts.log();
        let before_end = |back: u8| log.end(0).saturating_sub(u64::from(back));
        match self {
            Place::Header(word) => usize::from(word & 7),
            Place::Tail => TAIL_AT,
            Place::Parked => PARKED_AT,
            Place::Interest(bucket) => INTEREST_AT + usize::from(bucket) % INTEREST_BUCKETS,
            Place::Member(slot, word) => {
                let slot = usize::from(slot) % MAX_MEMBERS;
                MEMBERS_AT + slot * MEMBER_WORDS + usize::from(word) % MEMBER_WORDS
            }
            Place::Entry(back) => LOG_AT + (before_end(back) & (log.capacity() - 1)) as usize,
            Place::Record(back, word) => {
                let EntryState::Filled(entry) = log.state_at(before_end(back)) else {
                    return LOG_AT;
                };
                let ring = parts.layout().ring_range(entry.slot);
                let at = (entry.pos as usize + usize::from(word) * WORD_BYTES) & (ring.len() - 1);
                (ring.start + at) / WORD_BYTES
            }
            Place::Any(at) => at as usize,
            Place::HistoryHead(word) => HISTORY_AT + usize::from(word) % 17,
            Place::History(word) => {
                let range = parts.layout().history_range();
                let words = (range.len() / WORD_BYTES).max(1);
                range.start / WORD_BYTES + usize::from(word) % words
            }
        }
    }
}

/// What. Values near the right one get further than noise.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Value {
    Raw(u64),
    Flip(u8),
    Add(i16),
    /// Another lap, if the word is an entry of the log.
    Laps(i16),
    /// Other lengths and flags, if the word is the fifth of a record.
    Lengths(u16, u8, u8),
    /// What stands in another place.
    Of(Place),
}

/// One word that is written.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Write {
    place: Place,
    value: Value,
}

impl Write {
    /// The words may be fewer than the parts know, or more.
    pub(super) fn apply(self, words: &[AtomicU64], parts: Parts<'_>) {
        let word = |place: Place| &words[place.index(parts) % words.len()];
        let old = word(self.place).load(Ordering::Relaxed);
        let new = match self.value {
            Value::Raw(value) => value,
            Value::Flip(bit) => old ^ 1 << (bit & 63),
            Value::Add(difference) => old.wrapping_add_signed(difference.into()),
            Value::Laps(laps) => old.wrapping_add_signed(i64::from(laps) << 48),
            Value::Lengths(frame, topic, flags) => {
                u64::from(frame) | u64::from(topic) << 32 | u64::from(flags) << 40
            }
            Value::Of(place) => word(place).load(Ordering::Relaxed),
        };
        word(self.place).store(new, Ordering::Relaxed);
    }
}
