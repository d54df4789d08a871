//! The damage of a fuzzer: one word of a segment that another program writes.

use arbitrary::Arbitrary;

use crate::ipc::layout::{
    HISTORY_AT, INTEREST_AT, INTEREST_BUCKETS, LOG_AT, MAX_MEMBERS, MEMBER_WORDS, MEMBERS_AT,
    PARKED_AT, TAIL_AT, WORD_BYTES,
};
use crate::ipc::log::EntryState;
use crate::ipc::parts::Parts;
use crate::ipc::sync::{AtomicU64, Ordering};

/// The place of the damage. Noise over a whole segment would mostly hit rings that no reader reads. These places are
/// equally likely.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum WordPlace {
    /// The first words of the first page.
    Header(u8),
    Tail,
    Parked,
    Interest(u16),
    /// Any word of a member's slot.
    Member(u8, u8),
    /// The word of the log that many entries before its end. 0: the next one.
    Entry(u8),
    /// A word of the record that many entries before the end of the log.
    Record(u8, u8),
    Any(u32),
    /// The first words of the history's head.
    HistoryHead(u8),
    /// Any word of a history: its rules, hashes, topics or blocks.
    History(u16),
}

impl WordPlace {
    /// The index of the word, for any state of the memory.
    fn index(self, parts: Parts<'_>) -> usize {
        let log = parts.log();
        let before_end = |back: u8| log.end(0).saturating_sub(u64::from(back));
        match self {
            WordPlace::Header(word) => usize::from(word & 7),
            WordPlace::Tail => TAIL_AT,
            WordPlace::Parked => PARKED_AT,
            WordPlace::Interest(bucket) => INTEREST_AT + usize::from(bucket) % INTEREST_BUCKETS,
            WordPlace::Member(slot, word) => {
                let slot = usize::from(slot) % MAX_MEMBERS;
                MEMBERS_AT + slot * MEMBER_WORDS + usize::from(word) % MEMBER_WORDS
            }
            WordPlace::Entry(back) => LOG_AT + (before_end(back) & (log.capacity() - 1)) as usize,
            WordPlace::Record(back, word) => {
                let EntryState::Filled(entry) = log.state_at(before_end(back)) else {
                    return LOG_AT;
                };
                let ring = parts.layout().ring_range(entry.slot);
                let at = (entry.pos as usize + usize::from(word) * WORD_BYTES) & (ring.len() - 1);
                (ring.start + at) / WORD_BYTES
            }
            WordPlace::Any(at) => at as usize,
            WordPlace::HistoryHead(word) => HISTORY_AT + usize::from(word) % 17,
            WordPlace::History(word) => {
                let range = parts.layout().history_range();
                let words = (range.len() / WORD_BYTES).max(1);
                range.start / WORD_BYTES + usize::from(word) % words
            }
        }
    }
}

/// The new value. Values near the right one get further than noise.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum NewValue {
    Raw(u64),
    Flip(u8),
    Add(i16),
    /// Another lap, if the word is an entry of the log.
    Laps(i16),
    /// Other lengths and flags, if the word is the fifth of a record.
    Lengths(u16, u8, u8),
    /// The value at another place.
    Of(WordPlace),
}

/// The write of one word.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Write {
    place: WordPlace,
    value: NewValue,
}

impl Write {
    /// Writes the word. The words may be fewer than the parts assume, or more.
    pub(super) fn apply(self, words: &[AtomicU64], parts: Parts<'_>) {
        let word = |place: WordPlace| &words[place.index(parts) % words.len()];
        let old = word(self.place).load(Ordering::Relaxed);
        let new = match self.value {
            NewValue::Raw(value) => value,
            NewValue::Flip(bit) => old ^ 1 << (bit & 63),
            NewValue::Add(difference) => old.wrapping_add_signed(difference.into()),
            NewValue::Laps(laps) => old.wrapping_add_signed(i64::from(laps) << 48),
            NewValue::Lengths(frame, topic, flags) => {
                u64::from(frame) | u64::from(topic) << 32 | u64::from(flags) << 40
            }
            NewValue::Of(place) => word(place).load(Ordering::Relaxed),
        };
        word(self.place).store(new, Ordering::Relaxed);
    }
}
