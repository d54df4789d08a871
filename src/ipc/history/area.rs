//! The memory of the history: its head, its rules, its topics and its blocks, over words.
//!
//! Nothing that is read here is trusted: a number that leads nowhere leads to `None`.

use crate::ipc::layout::{MAX_RULES, MAX_TOPIC_BYTES, WORD_BYTES};
use crate::ipc::sync::{AtomicU64, Ordering};

/// Words of a name of up to 255 bytes.
pub(super) const NAME_WORDS: usize = (MAX_TOPIC_BYTES + 1) / WORD_BYTES;
/// Words of a rule: its limits, the offset since which it holds, the length of the pattern, the pattern.
pub(super) const RULE_WORDS: usize = 3 + NAME_WORDS;
/// Words of a topic: [`topic`], then its name.
pub(super) const TOPIC_WORDS: usize = topic::NAME + NAME_WORDS;
/// Words of a block: [`block`], then [`BLOCK_CAPACITY`] words of records.
pub(super) const BLOCK_WORDS: usize = 128;
/// Words of records in a block.
pub(super) const BLOCK_CAPACITY: usize = BLOCK_WORDS - block::RECORDS;
/// Words before the frame of a record: its offset, its length and flags, its time.
pub(super) const RECORD_HEADER_WORDS: usize = 3;

/// There are this many blocks for each topic.
const BLOCKS_PER_TOPIC: usize = 4;
/// Words of a block with its share of the topics.
const WORDS_PER_BLOCK: usize = BLOCK_WORDS + (TOPIC_WORDS + 1).div_ceil(BLOCKS_PER_TOPIC);

/// Words of the history in the segment's first page: [`HISTORY_HEAD_WORDS`](crate::ipc::layout::HISTORY_HEAD_WORDS).
pub(super) mod head {
    /// All records below this offset have been archived, if a rule covers them.
    pub(in super::super) const RETAINED: usize = 0;
    /// Below this offset records of any topic may be missing: they were overwritten too soon.
    pub(in super::super) const GAP: usize = 1;
    /// Below this offset topics without a place may have had records, which were dropped.
    pub(in super::super) const LOST: usize = 2;
    /// Not 0 while an archiver writes. If none does, its writer died.
    pub(in super::super) const BUSY: usize = 3;
    /// The number of blocks that were ever used. The blocks behind them are new.
    pub(in super::super) const USED: usize = 4;
    /// The first free block among the used ones, plus 1, and the number of free ones.
    pub(in super::super) const FREE: usize = 5;
    pub(in super::super) const FREE_BLOCKS: usize = 6;
    /// The blocks in use, oldest first: both ends of the list, plus 1.
    pub(in super::super) const OLDEST: usize = 7;
    pub(in super::super) const NEWEST: usize = 8;
}

/// Words of a topic.
pub(super) mod topic {
    /// Odd while name and length are written.
    pub(in super::super) const VERSION: usize = 0;
    /// A [`Link`](super::Link) to its newest block, with the words used there: the commit.
    pub(in super::super) const END: usize = 1;
    /// No record below this offset is retained.
    pub(in super::super) const FLOOR: usize = 2;
    /// Offset of the newest retained record, plus 1.
    pub(in super::super) const NEWEST: usize = 3;
    // For the archiver only.
    pub(in super::super) const RECORDS: usize = 4;
    pub(in super::super) const OLDEST: usize = 5;
    pub(in super::super) const NAME_BYTES: usize = 6;
    pub(in super::super) const NAME: usize = 8;
}

/// Words of a block.
pub(super) mod block {
    /// Grows when the block is freed.
    pub(in super::super) const GENERATION: usize = 0;
    /// A [`Link`](super::Link) to the topic's block before.
    pub(in super::super) const BEFORE: usize = 1;
    /// The word among these where the first record begins. [`BLOCK_CAPACITY`](super::BLOCK_CAPACITY): none does.
    pub(in super::super) const FIRST: usize = 2;
    /// Offset of the newest record that begins here, plus 1; 0: none does.
    pub(in super::super) const NEWEST: usize = 3;
    // For the archiver only. Numbers of blocks are plus 1, so that 0 is none.
    pub(in super::super) const BEHIND: usize = 4;
    /// The topic, and in the upper half the number of records that begin here.
    pub(in super::super) const OWNER: usize = 5;
    /// The time of the newest record that begins here.
    pub(in super::super) const SECONDS: usize = 6;
    /// Neighbours in the list of all, the older one in the lower half.
    pub(in super::super) const NEIGHBOURS: usize = 7;
    pub(in super::super) const RECORDS: usize = 8;
}

/// A reference to one generation of a block, and the number of its words that are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Link {
    pub(super) block: usize,
    pub(super) used: usize,
    pub(super) generation: u32,
}

impl Link {
    pub(super) fn to_word(self) -> u64 {
        (self.block as u64 + 1) | (self.used as u64) << 24 | u64::from(self.generation) << 32
    }

    /// `None`: there is no block.
    pub(super) fn from_word(word: u64) -> Option<Link> {
        let block = (word & 0xff_ffff) as usize;
        Some(Link {
            block: block.checked_sub(1)?,
            used: ((word >> 24) as usize & 0xff).min(BLOCK_CAPACITY),
            generation: (word >> 32) as u32,
        })
    }
}

/// The history's memory, cut into its parts.
#[derive(Clone, Copy, Debug)]
pub(in crate::ipc) struct Area<'a> {
    pub(super) head: &'a [AtomicU64],
    /// The number of rules, and in the upper half the number of changes.
    pub(super) rules_made: &'a AtomicU64,
    pub(super) rules: &'a [AtomicU64],
    /// The hash of each topic. 0: that place is free.
    pub(super) hashes: &'a [AtomicU64],
    topics: &'a [AtomicU64],
    blocks: &'a [AtomicU64],
}

impl<'a> Area<'a> {
    /// `words` are at least [`MIN_HISTORY_BYTES`](crate::ipc::layout::MIN_HISTORY_BYTES).
    pub(in crate::ipc) fn new(
        head: &'a [AtomicU64],
        rules_made: &'a AtomicU64,
        words: &'a [AtomicU64],
    ) -> Area<'a> {
        let (rules, rest) = words.split_at(MAX_RULES * RULE_WORDS);
        let topics = rest.len() / WORDS_PER_BLOCK / BLOCKS_PER_TOPIC;
        let (hashes, rest) = rest.split_at(topics);
        let (topics, blocks) = rest.split_at(topics * TOPIC_WORDS);
        Area {
            head,
            rules_made,
            rules,
            hashes,
            topics,
            blocks,
        }
    }

    /// Whether there are rules.
    #[inline]
    pub(in crate::ipc) fn is_used(&self) -> bool {
        self.rules_made.load(Ordering::Relaxed) != 0
    }

    /// All records below this offset have been archived.
    #[inline]
    pub(in crate::ipc) fn retained(&self) -> u64 {
        // [H8] Pairs with [H7]: the archived records before it are seen.
        self.head[head::RETAINED].load(Ordering::Acquire)
    }

    pub(super) fn get_head(&self, at: usize) -> u64 {
        self.head[at].load(Ordering::Relaxed)
    }

    pub(super) fn set_head(&self, at: usize, value: u64) {
        self.head[at].store(value, Ordering::Relaxed);
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.len() / BLOCK_WORDS
    }

    pub(super) fn topic(&self, number: usize) -> Option<Words<'a>> {
        let start = number.checked_mul(TOPIC_WORDS)?;
        self.topics.get(start..start + TOPIC_WORDS).map(Words)
    }

    pub(super) fn block(&self, number: usize) -> Option<Words<'a>> {
        let start = number.checked_mul(BLOCK_WORDS)?;
        self.blocks.get(start..start + BLOCK_WORDS).map(Words)
    }
}

/// The words of one topic or block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a>(pub(super) &'a [AtomicU64]);

impl Words<'_> {
    #[inline]
    pub(super) fn get(&self, at: usize) -> u64 {
        self.0[at].load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set(&self, at: usize, value: u64) {
        self.0[at].store(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::layout::{HISTORY_HEAD_WORDS, MIN_HISTORY_BYTES};

    #[test]
    fn a_link_comes_back_from_its_word() {
        assert_eq!(Link::from_word(0), None);
        for block in [0, 1, (1 << 24) - 2] {
            let link = Link {
                block,
                used: BLOCK_CAPACITY,
                generation: u32::MAX,
            };
            assert_eq!(Link::from_word(link.to_word()), Some(link));
        }
    }

    #[test]
    fn the_smallest_history_has_a_hundred_blocks() {
        let words: Vec<_> = std::iter::repeat_with(|| AtomicU64::new(0))
            .take(HISTORY_HEAD_WORDS + 1 + MIN_HISTORY_BYTES / WORD_BYTES)
            .collect();
        let (head, rest) = words.split_at(HISTORY_HEAD_WORDS);
        let area = Area::new(head, &rest[0], &rest[1..]);
        assert!(area.blocks() >= 100, "{}", area.blocks());
        assert!(area.hashes.len() >= 25, "{}", area.hashes.len());
        assert!(area.block(area.blocks()).is_none() && area.topic(area.hashes.len()).is_none());
    }
}
