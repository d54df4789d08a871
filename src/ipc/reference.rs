//! The bus as one would write it without a thought of speed or of death: lists, changed by one at a
//! time. It has the limits of the real one, so that it loses the same records; `model` holds the two
//! against each other.

use std::collections::VecDeque;

use super::record::{Member, record_bytes};

/// What one publish was given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Message {
    pub(super) topic: &'static str,
    pub(super) frame: Vec<u8>,
    pub(super) producer: Member,
}

/// What a reader gets.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ExpectedNext {
    Record(u64, Message),
    Lagged(u64),
    Empty,
}

/// What there is at an offset.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ExpectedAt {
    Record(Message),
    Overwritten,
    NotYet,
}

/// How much a member has written, in bytes since the beginning.
#[derive(Clone, Copy, Debug, Default)]
struct RingUse {
    /// SlowHub its last record.
    up_to: u64,
    /// What it has announced: whole steps, of which a ring has 64.
    announced: u64,
    /// Bytes of its ring that it may use.
    usable: u64,
    /// Bytes of its ring that the system has memory for.
    memory: u64,
}

#[derive(Debug)]
struct LogItem {
    message: Message,
    /// Where it begins, of what its member has written.
    at: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Reference {
    ring_bytes: u64,
    log_entries: u64,
    /// What is reserved of a ring at first, and by how much that grows.
    first: u64,
    piece: u64,
    /// The newest records, whether their bytes are still there or not.
    log: VecDeque<LogItem>,
    /// The offset that the next record gets.
    end: u64,
    members: [RingUse; super::MAX_MEMBERS],
}

impl Reference {
    pub(super) fn new(
        ring_bytes: usize,
        log_entries: usize,
        first: usize,
        piece: usize,
    ) -> Reference {
        let written = RingUse {
            usable: first as u64,
            ..RingUse::default()
        };
        Reference {
            ring_bytes: ring_bytes as u64,
            log_entries: log_entries as u64,
            first: first as u64,
            piece: piece as u64,
            log: VecDeque::new(),
            end: 0,
            members: [written; super::MAX_MEMBERS],
        }
    }

    /// The system has memory for so much of a member's ring.
    pub(super) fn has_memory(&mut self, slot: u8, bytes: usize) {
        self.members[usize::from(slot)].memory = bytes as u64;
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn publish(&mut self, message: Message) -> u64 {
        let body = message.frame.len() + message.topic.len();
        let at = self.write(message.producer.slot, body);
        self.log.push_back(LogItem { message, at });
        if self.log.len() as u64 > self.log_entries {
            self.log.pop_front();
        }
        self.end += 1;
        self.end - 1
    }

    /// A member dies with a record written and not committed, and another takes its place.
    pub(super) fn replace(&mut self, slot: u8, lost_body: usize) {
        self.resume(slot);
        self.members[usize::from(slot)].usable = self.ring_bytes;
        self.write(slot, lost_body);
        self.resume(slot);
        self.members[usize::from(slot)].usable = self.first;
    }

    fn resume(&mut self, slot: u8) {
        let written = &mut self.members[usize::from(slot)];
        written.up_to = written.announced;
    }

    /// Finds room for a record in a member's ring, and returns where.
    fn write(&mut self, slot: u8, body: usize) -> u64 {
        let ring_bytes = self.ring_bytes;
        let bytes = record_bytes(body) as u64;
        let written = &mut self.members[usize::from(slot)];
        let within = written.up_to % ring_bytes;
        let wanted = (within + bytes)
            .next_multiple_of(self.piece)
            .min(ring_bytes);
        if within + bytes > written.usable && wanted <= written.memory {
            written.usable = written.usable.max(wanted);
        }
        let is_room = within + bytes <= written.usable;
        let at = written.up_to + if is_room { 0 } else { ring_bytes - within };
        written.up_to = at + bytes;
        let step = ring_bytes / 64;
        written.announced = written.announced.max(written.up_to.next_multiple_of(step));
        at
    }

    /// What the log has at an offset below the end; `None` if that was overwritten.
    fn kept(&self, offset: u64) -> Option<&LogItem> {
        let oldest = self.end - self.log.len() as u64;
        self.log.get(offset.checked_sub(oldest)? as usize)
    }

    /// Whether a record's bytes are all there.
    fn has_bytes(&self, kept: &LogItem) -> bool {
        let announced = self.members[usize::from(kept.message.producer.slot)].announced;
        announced - kept.at <= self.ring_bytes
    }

    /// Where a reader goes on whose place in the log was overwritten: half a log behind the end, as
    /// far as the word that it finds there and the tail tell where that is.
    fn resume_reading(&self, offset: u64) -> u64 {
        let overwriter = self.end - 1 - (self.end - 1 - offset) % self.log_entries;
        let tail = self.end - self.end % 8;
        let known_end = tail.max(overwriter + 1);
        (offset + 1).max(known_end.saturating_sub(self.log_entries / 2))
    }

    /// The next of these topics from `next` on, which moves.
    pub(super) fn read(&self, next: &mut u64, topics: &[&str]) -> ExpectedNext {
        let mut lagged = 0;
        while *next < self.end {
            let before = *next;
            let Some(kept) = self.kept(before) else {
                *next = self.resume_reading(before);
                lagged += *next - before;
                continue;
            };
            let is_there = self.has_bytes(kept);
            if is_there && lagged > 0 {
                break;
            }
            *next += 1;
            if !is_there {
                lagged += 1;
            } else if topics.contains(&kept.message.topic) {
                return ExpectedNext::Record(before, kept.message.clone());
            }
        }
        match lagged {
            0 => ExpectedNext::Empty,
            _ => ExpectedNext::Lagged(lagged),
        }
    }

    pub(super) fn read_at(&self, offset: u64) -> ExpectedAt {
        if offset >= self.end {
            return ExpectedAt::NotYet;
        }
        match self.kept(offset) {
            Some(kept) if self.has_bytes(kept) => ExpectedAt::Record(kept.message.clone()),
            _ => ExpectedAt::Overwritten,
        }
    }
}
