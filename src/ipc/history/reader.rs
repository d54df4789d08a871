//! The reader of the history: it copies a topic's newest records out of its blocks, while an archiver may write.

use super::area::{Area, BLOCK_WORDS, Link, RECORD_HEADER_WORDS, TOPIC_WORDS, block, topic};
use crate::ipc::copy::append;
use crate::ipc::layout::{MAX_TOPIC_BYTES, WORD_BYTES};
use crate::ipc::sync::{Ordering, fence};

/// Attempts to read a topic's name while its place is given to another topic.
const ATTEMPTS: usize = 8;

/// A retained record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct StoredRecord<'a> {
    pub(super) offset: u64,
    pub(super) seconds: u32,
    pub(super) flags: u8,
    pub(super) frame: &'a [u8],
}

/// Some of the newest blocks of a topic, copied: a stream of records.
#[derive(Debug, Default)]
pub(super) struct Stream {
    bytes: Vec<u8>,
    /// No record of the topic below this offset is retained.
    pub(super) floor: u64,
    /// Whether there are older blocks than those copied.
    pub(super) more: bool,
}

impl Area<'_> {
    /// The number of a topic's place.
    pub(super) fn find(&self, hash: u64, name: &str) -> Option<usize> {
        self.look_up(hash, name).map(|(number, _)| number)
    }

    /// The number of a topic's place, and the version in which it belongs to that topic.
    fn look_up(&self, hash: u64, name: &str) -> Option<(usize, u64)> {
        let places = self.hashes.iter().enumerate();
        places
            .filter(|(_, it)| it.load(Ordering::Acquire) == hash)
            .find_map(|(number, _)| Some((number, self.named(number, name)?)))
    }

    fn named(&self, number: usize, name: &str) -> Option<u64> {
        let it = self.topic(number)?;
        let mut bytes = Vec::with_capacity(MAX_TOPIC_BYTES + WORD_BYTES);
        for _ in 0..ATTEMPTS {
            // [H6] Version even, then the words, then the same version again. Pairs with [H5].
            let version = it.0[topic::VERSION].load(Ordering::Acquire);
            bytes.clear();
            let count = (it.get(topic::NAME_BYTES) as usize).min(MAX_TOPIC_BYTES);
            append(&it.0[topic::NAME..TOPIC_WORDS], count, &mut bytes);
            fence(Ordering::Acquire);
            if version.is_multiple_of(2) && it.get(topic::VERSION) == version {
                return (bytes == name.as_bytes()).then_some(version);
            }
        }
        None
    }

    /// Copies the newest blocks of a topic, until `enough` returns true. It is called for each block with the offset
    /// of the first record in it, and with the number of records and bytes copied so far. `None`: the topic has no
    /// retained records.
    pub(super) fn stream(
        &self,
        hash: u64,
        name: &str,
        enough: impl Fn(u64, u64, usize) -> bool,
    ) -> Option<Stream> {
        for _ in 0..ATTEMPTS {
            let (number, version) = self.look_up(hash, name)?;
            let it = self.topic(number)?;
            // [H2] Pairs with [H1].
            let end = Link::from_word(it.0[topic::END].load(Ordering::Acquire));
            let stream = self.copy_chain(end, &enough);
            // Records that were freed meanwhile are below the floor. [H4]
            fence(Ordering::Acquire);
            let floor = it.get(topic::FLOOR);
            if it.get(topic::VERSION) != version {
                continue; // the place belongs to another topic by now
            }
            match stream {
                Some(stream) => return Some(Stream { floor, ..stream }),
                None if end.is_none() => return None, // the topic is just being added
                None => {}                            // whole blocks were freed meanwhile
            }
        }
        Some(Stream {
            floor: u64::MAX, // there are records, but they could not be read
            ..Stream::default()
        })
    }

    /// `None`: the newest block was freed before it could be read.
    fn copy_chain(
        &self,
        end: Option<Link>,
        enough: &impl Fn(u64, u64, usize) -> bool,
    ) -> Option<Stream> {
        let mut link = end;
        // Newest first: the words of each block, and the number of used ones.
        let mut copies: Vec<([u64; BLOCK_WORDS], usize)> = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        while let Some(next) = link
            && copies.len() < self.blocks()
            && let Some(words) = self.block(next.block)
        {
            let copy: [u64; BLOCK_WORDS] = std::array::from_fn(|at| words.get(at));
            // [H4] Pairs with [H3].
            fence(Ordering::Acquire);
            if words.get(block::GENERATION) as u32 != next.generation {
                break; // this block was freed, and so were all before it
            }
            copies.push((copy, next.used));
            link = Link::from_word(copy[block::BEFORE]);
            records += copy[block::OWNER] >> 32;
            bytes += next.used * WORD_BYTES;
            // The copy can only stop at a block in which a record begins.
            let first = copy[block::FIRST] as usize;
            if first < next.used && enough(copy[block::RECORDS + first], records, bytes) {
                break;
            }
        }
        if copies.is_empty() {
            return None;
        }
        let mut stream = Stream {
            bytes: Vec::with_capacity(bytes),
            floor: 0,
            more: link.is_some(),
        };
        for (copy, used) in copies.iter().rev() {
            let first = if stream.bytes.is_empty() {
                (copy[block::FIRST] as usize).min(*used)
            } else {
                0
            };
            for word in &copy[block::RECORDS..][first..*used] {
                stream.bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        Some(stream)
    }
}

impl Stream {
    /// The records, oldest first, up to the first invalid one.
    pub(super) fn records(&self) -> impl Iterator<Item = StoredRecord<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (words, behind) = rest
                .as_chunks::<WORD_BYTES>()
                .0
                .split_at_checked(RECORD_HEADER_WORDS)?;
            let word = |at: usize| u64::from_le_bytes(words[at]);
            let bytes = word(1) as u32 as usize;
            let all = behind.as_flattened();
            let frame = all.get(..bytes)?;
            rest = all.get(bytes.next_multiple_of(WORD_BYTES)..)?;
            Some(StoredRecord {
                offset: word(0),
                seconds: word(2) as u32,
                flags: (word(1) >> 32) as u8,
                frame,
            })
        })
    }
}
