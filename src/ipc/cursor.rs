//! The cursor that reads records in order.

use super::layout::MAX_TOPIC_BYTES;
use super::log::{EntryState, Log};
use super::parts::Parts;
use super::record::{Member, RecordHead, RecordHeader};
use super::ring::ReadResult;

/// After this many unwanted records, control returns to the reader.
const SKIP_BUDGET: u64 = 1024;

/// The result of reading on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// A record. Its frame is at the end of the buffer.
    Record(RecordHead),
    /// Only unwanted records so far, and there may be more: call again.
    Skipped,
    /// Nothing more for now.
    Empty,
    /// This many records were overwritten before they could be read. They may have been of any topic. The record behind
    /// them comes with the next call.
    Lagged(u64),
}

/// The result of reading one offset.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadAt {
    /// A record. Its frame is at the end of the buffer.
    Record(RecordHead),
    /// There was a record, and it has been overwritten.
    Overwritten,
    /// Nothing has been published there yet.
    NotYet,
}

/// A cursor over the records of a segment.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The next offset to read. Never above the end of the log.
    next: u64,
    /// The tags (low 8 bits of a topic's hash) to read. Records of other tags are passed by.
    tags: [u64; 4],
    /// The tags of the records of the last [`Next::Lagged`].
    missed: [u64; 4],
    /// The name of the last record's topic.
    topic: String,
}

impl Cursor {
    pub(super) fn new(next: u64) -> Cursor {
        Cursor {
            next,
            tags: [u64::MAX; 4],
            missed: [0; 4],
            topic: String::with_capacity(MAX_TOPIC_BYTES),
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.next
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn set_tags(&mut self, tags: [u64; 4]) {
        self.tags = tags;
    }

    /// See [`super::Subscriber::missed_tags`].
    pub(super) fn missed_tags(&self) -> [u64; 4] {
        self.missed
    }

    /// See [`super::Subscriber::next`]. Bounded, whatever the memory contains: each turn of the loop moves the cursor,
    /// and the number of turns is limited by the size of the log.
    #[inline]
    pub(super) fn next(
        &mut self,
        parts: Parts<'_>,
        mut wants: impl FnMut(u64) -> bool,
        frames: &mut Vec<u8>,
    ) -> Next {
        let log = parts.log();
        let (mut lagged, mut skipped) = (0, 0);
        for _ in 0..log.capacity() + SKIP_BUDGET {
            if skipped == SKIP_BUDGET {
                break;
            }
            let entry = match log.state_at(self.next) {
                EntryState::Filled(entry) => entry,
                EntryState::Empty if lagged == 0 => return Next::Empty,
                EntryState::Empty => break,
                EntryState::Lapped { resume } => {
                    self.missed = self.tags; // their tags are not known any more
                    lagged += resume - self.next;
                    self.next = resume;
                    continue;
                }
            };
            if self.tags[usize::from(entry.tag >> 6)] & 1 << (entry.tag & 63) == 0 {
                self.next += 1;
                skipped += 1;
                continue;
            }
            let ring = parts.ring(entry.slot);
            if lagged > 0 && ring.holds(entry) {
                break; // the gap ends here, and the next call returns this record
            }
            let copied = ring.read(entry, self.next, &mut wants, frames, &mut self.topic);
            let offset = self.next;
            self.next += 1;
            match copied {
                ReadResult::Record(header) => {
                    return Next::Record(head(offset, entry.slot, header, frames.len()));
                }
                ReadResult::Unwanted => skipped += 1,
                ReadResult::Overwritten => {
                    if lagged == 0 {
                        self.missed = [0; 4];
                    }
                    self.missed[usize::from(entry.tag >> 6)] |= 1 << (entry.tag & 63);
                    lagged += 1;
                }
            }
        }
        if lagged > 0 {
            Next::Lagged(lagged)
        } else {
            Next::Skipped
        }
    }
}

/// Reads one record by its offset. Its frame is appended to `frames`, and the name of its topic replaces `topic`.
pub(super) fn read_at(
    parts: Parts<'_>,
    offset: u64,
    frames: &mut Vec<u8>,
    topic: &mut String,
) -> ReadAt {
    let log: Log<'_> = parts.log();
    // Laps are known modulo 2^16: this far ahead, the lap of an older entry may look like the right one.
    if offset > log.tail().saturating_add(log.capacity()) {
        return ReadAt::NotYet;
    }
    match log.state_at(offset) {
        EntryState::Empty => ReadAt::NotYet,
        EntryState::Lapped { .. } => ReadAt::Overwritten,
        EntryState::Filled(entry) => {
            match parts
                .ring(entry.slot)
                .read(entry, offset, |_| true, frames, topic)
            {
                ReadResult::Record(header) => {
                    ReadAt::Record(head(offset, entry.slot, header, frames.len()))
                }
                ReadResult::Unwanted | ReadResult::Overwritten => ReadAt::Overwritten,
            }
        }
    }
}

#[inline]
fn head(offset: u64, slot: u8, header: RecordHeader, frames_end: usize) -> RecordHead {
    RecordHead {
        offset,
        topic_hash: header.topic_hash,
        flags: header.flags,
        exclude_session: header.exclude_session,
        producer: Member {
            slot,
            incarnation: header.incarnation,
        },
        frame: frames_end - header.frame_len as usize..frames_end,
    }
}
