//! The store of the history: it appends records to the blocks of their topics, and frees blocks.
//!
//! A topic's records are one stream of words, cut into blocks, each with a link to the block before. One store, of
//! the topic's `END`, makes a record part of the stream. A block is freed when the topic has enough records without
//! it, or when no block is free and it is the oldest of all.
//!
//! The caller holds the lock for archiving and has set `BUSY`, so it may die anywhere in here: `repair` needs nothing
//! but the streams themselves.

use super::area::{
    Area, BLOCK_CAPACITY, BLOCK_WORDS, Link, RECORD_HEADER_WORDS, Words, block, head, topic,
};
use super::rules::TopicRetention;
use crate::ipc::copy::Packer;
use crate::ipc::layout::WORD_BYTES;
use crate::ipc::sync::{Ordering, fence};

/// A record may take this share of all blocks.
const LARGEST_SHARE: usize = 4;

/// A record that is about to be archived.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewRecord<'a> {
    pub(super) offset: u64,
    pub(super) seconds: u32,
    pub(super) flags: u8,
    pub(super) topic_hash: u64,
    pub(super) topic: &'a str,
    pub(super) frame: &'a [u8],
}

/// The error that the history has a content that no archiver could have written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct HistoryDamage;

/// The place of the next word.
struct Pen<'a> {
    number: usize,
    block: Words<'a>,
    used: usize,
}

impl<'a> Area<'a> {
    /// Notes that records below `offset` may be missing, of topics without a place.
    fn lose(&self, offset: u64) {
        self.set_head(head::LOST, self.get_head(head::LOST).max(offset));
    }

    /// Notes that records below `offset` may be missing, of any topic.
    pub(super) fn skip(&self, offset: u64) {
        self.set_head(head::GAP, self.get_head(head::GAP).max(offset));
        self.lose(offset);
    }

    /// Appends a record to its topic, and frees the blocks that the topic no longer needs. `now` is in seconds of
    /// [`crate::ipc::clock`].
    pub(super) fn append(
        &self,
        record: &NewRecord<'_>,
        rule: TopicRetention,
        now: u32,
    ) -> Result<(), HistoryDamage> {
        let words = RECORD_HEADER_WORDS + record.frame.len().div_ceil(WORD_BYTES);
        let needed = words.div_ceil(BLOCK_CAPACITY) + 1;
        if needed > self.blocks() / LARGEST_SHARE {
            // Too large to be archived: it is missing, and with it all records of its topic before it.
            if let Some(number) = self.find(record.topic_hash, record.topic) {
                self.remove_topic(number)?;
            }
            self.lose(record.offset + 1);
            return Ok(());
        }
        while self.free_blocks() < needed {
            self.evict()?;
        }
        let number = match self.find(record.topic_hash, record.topic) {
            Some(number) => number,
            None => self.enter(record.topic_hash, record.topic)?,
        };
        let it = self.topic(number).ok_or(HistoryDamage)?;
        if it.get(topic::NEWEST) > record.offset {
            return Ok(()); // it was archived already, by a process that died before it could note that
        }
        self.write(number, it, record)?;
        while it.get(topic::OLDEST) != 0 && self.has_too_much(it, rule, now)? {
            self.drop_oldest(it)?;
        }
        Ok(())
    }

    fn write(
        &self,
        number: usize,
        it: Words<'a>,
        record: &NewRecord<'_>,
    ) -> Result<(), HistoryDamage> {
        let end = Link::from_word(it.get(topic::END));
        let mut pen = match end {
            Some(link) if link.used < BLOCK_CAPACITY => Pen {
                number: link.block,
                block: self.block(link.block).ok_or(HistoryDamage)?,
                used: link.used,
            },
            before => self.next_block(number, it, before.map(|link| link.block))?,
        };
        let begins_in = pen.block;
        if begins_in.get(block::FIRST) >= BLOCK_CAPACITY as u64 {
            begins_in.set(block::FIRST, pen.used as u64);
        }
        begins_in.set(block::NEWEST, record.offset + 1);
        begins_in.set(block::SECONDS, u64::from(record.seconds));
        let owner = begins_in.get(block::OWNER);
        begins_in.set(block::OWNER, owner.wrapping_add(1 << 32));

        let sizes = record.frame.len() as u64 | u64::from(record.flags) << 32;
        for word in [record.offset, sizes, u64::from(record.seconds)] {
            if pen.used == BLOCK_CAPACITY {
                pen = self.next_block(number, it, Some(pen.number))?;
            }
            pen.block.set(block::RECORDS + pen.used, word);
            pen.used += 1;
        }
        let mut frame = record.frame;
        while !frame.is_empty() {
            if pen.used == BLOCK_CAPACITY {
                pen = self.next_block(number, it, Some(pen.number))?;
            }
            let (now, later) =
                frame.split_at(frame.len().min((BLOCK_CAPACITY - pen.used) * WORD_BYTES));
            let mut packer = Packer::new(&pen.block.0[block::RECORDS + pen.used..]);
            packer.write(now);
            packer.finish();
            pen.used += now.len().div_ceil(WORD_BYTES);
            frame = later;
        }
        let end = Link {
            block: pen.number,
            used: pen.used,
            generation: pen.block.get(block::GENERATION) as u32,
        };
        // [H1] Pairs with [H2]: a reader that sees the end sees the records before it.
        it.0[topic::END].store(end.to_word(), Ordering::Release);
        it.set(topic::NEWEST, record.offset + 1);
        it.set(topic::RECORDS, it.get(topic::RECORDS).wrapping_add(1));
        Ok(())
    }

    /// A new block behind `before`.
    fn next_block(
        &self,
        owner: usize,
        it: Words<'a>,
        before: Option<usize>,
    ) -> Result<Pen<'a>, HistoryDamage> {
        let (number, block) = self.take()?;
        let link = match before {
            None => {
                it.set(topic::OLDEST, number as u64 + 1);
                0
            }
            Some(before) => {
                let words = self.block(before).ok_or(HistoryDamage)?;
                words.set(block::BEHIND, number as u64 + 1);
                let generation = words.get(block::GENERATION) as u32;
                let link = Link {
                    block: before,
                    used: BLOCK_CAPACITY,
                    generation,
                };
                link.to_word()
            }
        };
        block.set(block::BEFORE, link);
        block.set(block::BEHIND, 0);
        block.set(block::FIRST, BLOCK_CAPACITY as u64);
        block.set(block::NEWEST, 0);
        block.set(block::SECONDS, 0);
        block.set(block::OWNER, owner as u64);
        self.line_up(number, block)?;
        Ok(Pen {
            number,
            block,
            used: 0,
        })
    }

    /// Takes a free block. There is one, because `append` has freed one if needed.
    fn take(&self) -> Result<(usize, Words<'a>), HistoryDamage> {
        let free = self.get_head(head::FREE);
        if let Some(number) = free.checked_sub(1) {
            let block = self.block(number as usize).ok_or(HistoryDamage)?;
            self.set_head(head::FREE, block.get(block::BEHIND));
            let left = self.get_head(head::FREE_BLOCKS).saturating_sub(1);
            self.set_head(head::FREE_BLOCKS, left);
            return Ok((number as usize, block));
        }
        let number = self.get_head(head::USED) as usize;
        let block = self.block(number).ok_or(HistoryDamage)?;
        self.set_head(head::USED, number as u64 + 1);
        Ok((number, block))
    }

    fn free_blocks(&self) -> usize {
        let fresh = self
            .blocks()
            .saturating_sub(self.get_head(head::USED) as usize);
        fresh.saturating_add(self.get_head(head::FREE_BLOCKS) as usize)
    }

    /// Appends a block to the list of all blocks, as the newest.
    fn line_up(&self, number: usize, block: Words<'_>) -> Result<(), HistoryDamage> {
        let last = self.get_head(head::NEWEST);
        block.set(block::NEIGHBOURS, last);
        if let Some(before) = last.checked_sub(1) {
            let before = self.block(before as usize).ok_or(HistoryDamage)?;
            let older = before.get(block::NEIGHBOURS) & 0xffff_ffff;
            before.set(block::NEIGHBOURS, older | (number as u64 + 1) << 32);
        } else {
            self.set_head(head::OLDEST, number as u64 + 1);
        }
        self.set_head(head::NEWEST, number as u64 + 1);
        Ok(())
    }

    /// Removes a block from the list of all blocks.
    fn step_out(&self, block: Words<'_>) -> Result<(), HistoryDamage> {
        let both = block.get(block::NEIGHBOURS);
        let (older, newer) = (both & 0xffff_ffff, both >> 32);
        match older.checked_sub(1) {
            None => self.set_head(head::OLDEST, newer),
            Some(older) => {
                let older = self.block(older as usize).ok_or(HistoryDamage)?;
                let its = older.get(block::NEIGHBOURS) & 0xffff_ffff;
                older.set(block::NEIGHBOURS, its | newer << 32);
            }
        }
        match newer.checked_sub(1) {
            None => self.set_head(head::NEWEST, older),
            Some(newer) => {
                let newer = self.block(newer as usize).ok_or(HistoryDamage)?;
                let its = newer.get(block::NEIGHBOURS) >> 32;
                newer.set(block::NEIGHBOURS, older | its << 32);
            }
        }
        Ok(())
    }

    /// Frees the oldest block of all. With its last block a topic loses its place.
    fn evict(&self) -> Result<(), HistoryDamage> {
        let oldest = self.get_head(head::OLDEST);
        let number = oldest.checked_sub(1).ok_or(HistoryDamage)?;
        let block = self.block(number as usize).ok_or(HistoryDamage)?;
        let owner = (block.get(block::OWNER) & 0xffff_ffff) as usize;
        let it = self.topic(owner).ok_or(HistoryDamage)?;
        if self.hashes[owner].load(Ordering::Relaxed) == 0 || it.get(topic::OLDEST) != oldest {
            return Err(HistoryDamage);
        }
        if Link::from_word(it.get(topic::END)).is_some_and(|end| end.block as u64 == number) {
            self.remove_topic(owner)
        } else {
            self.drop_oldest(it)
        }
    }

    /// Whether a topic has enough records without its oldest block, or all in that are too old.
    fn has_too_much(
        &self,
        it: Words<'_>,
        rule: TopicRetention,
        now: u32,
    ) -> Result<bool, HistoryDamage> {
        let oldest = it.get(topic::OLDEST) - 1;
        if Link::from_word(it.get(topic::END)).is_none_or(|end| end.block as u64 == oldest) {
            return Ok(false);
        }
        let oldest = self.block(oldest as usize).ok_or(HistoryDamage)?;
        let begin = oldest.get(block::OWNER) >> 32;
        let enough = it.get(topic::RECORDS) >= begin + u64::from(rule.records);
        let age = now.saturating_sub(oldest.get(block::SECONDS) as u32);
        Ok(enough || rule.seconds > 0 && begin > 0 && age > rule.seconds)
    }

    fn drop_oldest(&self, it: Words<'_>) -> Result<(), HistoryDamage> {
        let number = it.get(topic::OLDEST).checked_sub(1).ok_or(HistoryDamage)? as usize;
        let block = self.block(number).ok_or(HistoryDamage)?;
        let floor = it.get(topic::FLOOR).max(block.get(block::NEWEST));
        it.set(topic::FLOOR, floor);
        it.set(topic::OLDEST, block.get(block::BEHIND));
        let begin = block.get(block::OWNER) >> 32;
        it.set(topic::RECORDS, it.get(topic::RECORDS).saturating_sub(begin));
        self.step_out(block)?;
        self.give_back(number, block);
        Ok(())
    }

    /// Removes a topic, and frees all its blocks.
    pub(super) fn remove_topic(&self, number: usize) -> Result<(), HistoryDamage> {
        let it = self.topic(number).ok_or(HistoryDamage)?;
        self.lose(it.get(topic::NEWEST));
        self.hashes[number].store(0, Ordering::Relaxed);
        for _ in 0..self.blocks() {
            if it.get(topic::OLDEST) == 0 {
                return Ok(());
            }
            self.drop_oldest(it)?;
        }
        Err(HistoryDamage)
    }

    /// Frees a block. Readers that still copy it notice.
    pub(super) fn give_back(&self, number: usize, block: Words<'_>) {
        let generation = block.get(block::GENERATION).wrapping_add(1);
        // [H3] First the offsets below which records are missing, then the new generation, then other words. Pairs
        // with [H4].
        fence(Ordering::Release);
        block.set(block::GENERATION, generation);
        fence(Ordering::Release);
        block.set(block::BEHIND, self.get_head(head::FREE));
        self.set_head(head::FREE, number as u64 + 1);
        let free = self.get_head(head::FREE_BLOCKS);
        self.set_head(head::FREE_BLOCKS, free.wrapping_add(1));
    }

    /// Gives a topic a place.
    fn enter(&self, hash: u64, name: &str) -> Result<usize, HistoryDamage> {
        let free = || {
            let mut hashes = self.hashes.iter();
            hashes.position(|it| it.load(Ordering::Relaxed) == 0)
        };
        let mut number = free();
        while number.is_none() {
            self.evict()?;
            number = free();
        }
        let number = number.expect("looked for until there was one");
        let it = self.topic(number).ok_or(HistoryDamage)?;
        let version = it.get(topic::VERSION) | 1;
        it.set(topic::VERSION, version);
        // [H5] Version odd, then the words, then even. Pairs with [H6].
        fence(Ordering::Release);
        it.set(topic::END, 0);
        for word in [topic::NEWEST, topic::RECORDS, topic::OLDEST] {
            it.set(word, 0);
        }
        // The topic may have had a place before.
        it.set(topic::FLOOR, self.get_head(head::LOST));
        it.set(topic::NAME_BYTES, name.len() as u64);
        let mut packer = Packer::new(&it.0[topic::NAME..]);
        packer.write(name.as_bytes());
        packer.finish();
        it.0[topic::VERSION].store(version.wrapping_add(1), Ordering::Release);
        self.hashes[number].store(hash, Ordering::Release);
        Ok(number)
    }

    /// Removes all records, because the content was not written by an archiver.
    pub(super) fn clear(&self) {
        self.skip(self.get_head(head::RETAINED));
        for hash in self.hashes {
            hash.store(0, Ordering::Relaxed);
        }
        fence(Ordering::Release); // [H3]
        for number in 0..self.blocks() {
            let block = self.block(number).expect("one of its own");
            let generation = block.get(block::GENERATION).wrapping_add(1);
            block.set(block::GENERATION, generation);
        }
        fence(Ordering::Release); // [H3]
        for word in [
            head::USED,
            head::FREE,
            head::FREE_BLOCKS,
            head::OLDEST,
            head::NEWEST,
        ] {
            self.set_head(word, 0);
        }
    }
}

const _: () = assert!(BLOCK_WORDS > 2 * RECORD_HEADER_WORDS);
