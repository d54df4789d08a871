//! The repair after an archiver died in a batch: it rebuilds the lists of blocks, and the counts of topics and
//! blocks, from the streams, which are complete after every single store.

use super::area::{Area, BLOCK_CAPACITY, Link, RECORD_HEADER_WORDS, block, head, topic};
use crate::ipc::layout::WORD_BYTES;
use crate::ipc::sync::{Ordering, fence};

/// A block in use. `newest` is the newest offset up to it, for the order of all blocks.
struct Used {
    number: usize,
    newest: u64,
}

impl Area<'_> {
    /// Rebuilds everything but the streams. The caller holds the lock for archiving.
    pub(super) fn repair(&self) {
        let mut is_used = vec![false; self.blocks()];
        let mut all = Vec::new();
        for (number, hash) in self.hashes.iter().enumerate() {
            if hash.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let chain = self.chain(number, &mut is_used);
            if chain.is_empty() {
                // The archiver died between giving the topic a place and its first record.
                hash.store(0, Ordering::Relaxed);
                continue;
            }
            self.count_again(number, &chain, &mut all);
        }
        all.sort_by_key(|it| it.newest);

        let used = (self.get_head(head::USED) as usize).min(self.blocks());
        self.set_head(head::FREE, 0);
        self.set_head(head::FREE_BLOCKS, 0);
        for number in (0..used).filter(|&number| !is_used[number]) {
            self.give_back(number, self.block(number).expect("below their number"));
        }
        // A block that the head does not count as used, because its first user died.
        let known = all.iter().map(|it| it.number + 1).max().unwrap_or(0);
        self.set_head(head::USED, used.max(known) as u64);
        self.set_head(head::OLDEST, 0);
        self.set_head(head::NEWEST, 0);
        let mut before: Option<usize> = None;
        for (at, it) in all.iter().enumerate() {
            let newer = all.get(at + 1).map_or(0, |next| next.number as u64 + 1);
            let older = before.map_or(0, |number| number as u64 + 1);
            let words = self.block(it.number).expect("found in a chain");
            words.set(block::NEIGHBOURS, older | newer << 32);
            before = Some(it.number);
        }
        if let (Some(first), Some(last)) = (all.first(), all.last()) {
            self.set_head(head::OLDEST, first.number as u64 + 1);
            self.set_head(head::NEWEST, last.number as u64 + 1);
        }
        fence(Ordering::Release);
    }

    /// The blocks of a topic, oldest first, each with the number of used words.
    fn chain(&self, number: usize, is_used: &mut [bool]) -> Vec<(usize, usize)> {
        let mut chain = Vec::new();
        let end = self.topic(number).map_or(0, |it| it.get(topic::END));
        let mut link = Link::from_word(end);
        while let Some(next) = link
            && let Some(words) = self.block(next.block)
            && words.get(block::GENERATION) as u32 == next.generation
            && !std::mem::replace(&mut is_used[next.block], true)
        {
            chain.push((next.block, next.used));
            link = Link::from_word(words.get(block::BEFORE));
        }
        chain.reverse();
        chain
    }

    /// Walks through a topic's records, and sets the counts of its blocks and of the topic.
    fn count_again(&self, number: usize, chain: &[(usize, usize)], all: &mut Vec<Used>) {
        let it = self.topic(number).expect("it has a hash");
        let words = |at: usize| self.block(chain[at].0).expect("found in a chain");
        let (mut records, mut newest) = (0, 0);
        for (at, &(own, _)) in chain.iter().enumerate() {
            let behind = chain.get(at + 1).map_or(0, |(next, _)| *next as u64 + 1);
            words(at).set(block::BEHIND, behind);
            words(at).set(block::OWNER, number as u64);
            words(at).set(block::NEWEST, 0);
            all.push(Used {
                number: own,
                newest: 0,
            });
        }
        let here = all.len() - chain.len();
        // The start of the next record: block of the chain, word of it.
        let start = chain.iter().enumerate().find_map(|(at, (_, used))| {
            let first = words(at).get(block::FIRST) as usize;
            (first < *used).then_some((at, first))
        });
        let mut begun_in = None;
        let mut place = start;
        while let Some((at, first)) = place {
            let Some(header) = self.words_at(chain, (at, first)) else {
                break;
            };
            let offset = header[0];
            let seconds = header[2];
            let block = words(at);
            if begun_in != Some(at) {
                block.set(block::FIRST, first as u64);
                begun_in = Some(at);
            }
            block.set(block::NEWEST, offset.wrapping_add(1));
            block.set(block::SECONDS, seconds);
            block.set(block::OWNER, block.get(block::OWNER) + (1 << 32));
            all[here + at].newest = offset.wrapping_add(1);
            records += 1;
            newest = offset.wrapping_add(1);
            let frame = (header[1] as u32 as usize).div_ceil(WORD_BYTES);
            place = forward(chain, (at, first), RECORD_HEADER_WORDS + frame);
        }
        for at in 0..chain.len() {
            let none_begins = words(at).get(block::NEWEST) == 0;
            if none_begins {
                words(at).set(block::FIRST, BLOCK_CAPACITY as u64);
            }
            if at > 0 {
                all[here + at].newest = all[here + at].newest.max(all[here + at - 1].newest);
            }
        }
        it.set(topic::RECORDS, records);
        it.set(topic::NEWEST, newest);
        it.set(topic::OLDEST, chain[0].0 as u64 + 1);
    }

    /// The words before a record's frame, which may lie in two blocks.
    fn words_at(
        &self,
        chain: &[(usize, usize)],
        place: (usize, usize),
    ) -> Option<[u64; RECORD_HEADER_WORDS]> {
        let mut header = [0; RECORD_HEADER_WORDS];
        for (index, word) in header.iter_mut().enumerate() {
            let (at, within) = forward(chain, place, index)?;
            *word = self.block(chain[at].0)?.get(block::RECORDS + within);
        }
        Some(header)
    }
}

/// The place `words` words further. `None`: the stream ends before.
fn forward(
    chain: &[(usize, usize)],
    (mut at, mut within): (usize, usize),
    words: usize,
) -> Option<(usize, usize)> {
    within += words;
    while within >= chain.get(at)?.1 {
        within -= chain[at].1;
        at += 1;
    }
    Some((at, within))
}
