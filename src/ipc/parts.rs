//! The parts of a segment: its words, cut into log, rings, member table and history.
//!
//! [`Parts`] does not know whether the words are shared memory or a plain `Vec` in a test.

use super::counters::Counters;
use super::history::area::Area;
use super::layout::{
    COUNTER_WORDS, COUNTERS, FATE_AT, HISTORY_AT, HISTORY_HEAD_WORDS, INTENT, INTEREST_AT,
    INTEREST_BUCKETS, LOG_AT, Layout, MAX_MEMBERS, MEMBER_WORDS, MEMBERS_AT, PARKED_AT,
    RESERVED_AT, RULES_AT, TAIL_AT, WORD_BYTES,
};
use super::log::Log;
use super::members::Table;
use super::ring::Ring;
use super::sync::{AtomicU64, Ordering};
use super::wake::Sleepers;

/// The end of a bus that its members may still have open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It was removed: a process that opens the name gets another bus.
    Removed,
    /// Its log has a content that no publisher could have written.
    Damaged,
}

/// A segment's words, cut into its parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    /// At least `layout.total_bytes()` long.
    words: &'a [AtomicU64],
    layout: Layout,
}

impl<'a> Parts<'a> {
    /// Panics if there are fewer words than the layout needs; [`super::segment`] checks it first.
    pub(super) fn new(words: &'a [AtomicU64], layout: Layout) -> Parts<'a> {
        assert!(
            words.len() * WORD_BYTES >= layout.total_bytes(),
            "the segment is too short"
        );
        Parts { words, layout }
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// The log, shared by all members.
    #[inline]
    pub(super) fn log(&self) -> Log<'a> {
        let entries = &self.words[LOG_AT..LOG_AT + self.layout.log_entries()];
        Log::new(entries, &self.words[TAIL_AT])
    }

    /// The ring of the member in `slot`, which is below [`MAX_MEMBERS`].
    #[inline]
    pub(super) fn ring(&self, slot: u8) -> Ring<'a> {
        let bytes = self.layout.ring_range(slot);
        let words = &self.words[bytes.start / WORD_BYTES..bytes.end / WORD_BYTES];
        Ring::new(
            words,
            &self.members()[usize::from(slot) * MEMBER_WORDS + INTENT],
        )
    }

    /// The sleeping members and their interest.
    #[inline(always)]
    #[allow(clippy::inline_always)] // measured: with `interested`, 5 % of the instructions of a publish
    pub(super) fn sleepers(&self) -> Sleepers<'a> {
        let interest = &self.words[INTEREST_AT..INTEREST_AT + INTEREST_BUCKETS];
        Sleepers::new(&self.words[PARKED_AT], interest, self.members())
    }

    /// The member table.
    pub(super) fn table(&self) -> Table<'a> {
        Table::new(self.members())
    }

    /// The history. `None`: this bus was created without one.
    #[inline]
    pub(super) fn history(&self) -> Option<Area<'a>> {
        if self.layout.history_bytes() == 0 {
            return None;
        }
        let bytes = self.layout.history_range();
        Some(Area::new(
            &self.words[HISTORY_AT..HISTORY_AT + HISTORY_HEAD_WORDS],
            &self.words[RULES_AT],
            &self.words[bytes.start / WORD_BYTES..bytes.end / WORD_BYTES],
        ))
    }

    /// Whether the bus was removed or damaged. `None`: it is in order.
    #[inline]
    pub(super) fn fate(&self) -> Option<Fate> {
        match self.words[FATE_AT].load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Fate::Removed),
            _ => Some(Fate::Damaged),
        }
    }

    /// Marks the bus as removed or damaged, for all members.
    pub(super) fn set_fate(&self, fate: Fate) {
        let word = match fate {
            Fate::Removed => 1,
            Fate::Damaged => 2,
        };
        self.words[FATE_AT].store(word, Ordering::Relaxed);
    }

    /// Whether the history has rules. Read before every publish, and hardly ever changed.
    #[inline]
    pub(super) fn has_rules(&self) -> bool {
        self.words[RULES_AT].load(Ordering::Relaxed) != 0
    }

    /// The slots that are reserved, as a mask. In force only while a member has one of them.
    pub(super) fn reserved(&self) -> u64 {
        self.words[RESERVED_AT].load(Ordering::Relaxed)
    }

    /// Reserves the slots of a mask, and no others. The caller holds the door.
    pub(super) fn set_reserved(&self, slots: u64) {
        self.words[RESERVED_AT].store(slots, Ordering::Relaxed);
    }

    /// The counters of a member.
    #[inline]
    pub(super) fn counters(&self, slot: u8) -> Counters<'a> {
        let start = usize::from(slot) * MEMBER_WORDS + COUNTERS;
        Counters::new(&self.members()[start..start + COUNTER_WORDS])
    }

    fn members(&self) -> &'a [AtomicU64] {
        &self.words[MEMBERS_AT..MEMBERS_AT + MAX_MEMBERS * MEMBER_WORDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::layout::tests::plain_words;

    #[test]
    #[should_panic(expected = "too short")]
    fn fewer_words_than_the_layout_needs_are_not_accepted() {
        let layout = Layout::new(4096, 64).expect("the smallest");
        let _ = Parts::new(&plain_words(layout)[1..], layout);
    }
}
