//! The reference of the model test: the bus as simple lists, changed by one thread, without a thought of speed or
//! death.
//!
//! It has the limits of the real bus, so that it loses the same records. `model` compares the two.

use std::collections::VecDeque;

use super::record::{Member, record_bytes};

/// A published message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Message {
    pub(super) topic: &'static str,
    pub(super) frame: Vec<u8>,
    pub(super) producer: Member,
}

/// The result of reading on, as expected.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ExpectedNext {
    Record(u64, Message),
    Lagged(u64),
    Empty,
}

/// The result of reading one offset, as expected.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum ExpectedAt {
    Record(Message),
    Overwritten,
    NotYet,
}

/// The use of one ring, in bytes since the beginning.
#[derive(Clone, Copy, Debug, Default)]
struct RingUse {
    /// The end of its last record.
    up_to: u64,
    /// The announced end: whole steps, of which a ring has 64.
    announced: u64,
    /// Bytes of the ring that the producer may use.
    usable: u64,
    /// Bytes of the ring that the system has memory for.
    memory: u64,
}

#[derive(Debug)]
struct LogItem {
    message: Message,
    /// Its position in the ring of its member.
    at: u64,
}

/// The bus as lists.
#[derive(Debug)]
pub(super) struct Reference {
    ring_bytes: u64,
    log_entries: u64,
    /// Bytes of a ring that are reserved at first, and bytes by which that grows.
    first: u64,
    piece: u64,
    /// The newest records. Their bytes may be overwritten already.
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

    /// From now on the system has memory for this many bytes of a member's ring.
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

    /// A member dies with a record written and not committed, and another takes its slot.
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

    /// Finds the position of a record in a member's ring.
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

    /// The item of the log at an offset below the end. `None`: it was overwritten.
    fn kept(&self, offset: u64) -> Option<&LogItem> {
        let oldest = self.end - self.log.len() as u64;
        self.log.get(offset.checked_sub(oldest)? as usize)
    }

    /// Whether all bytes of a record are still there.
    fn has_bytes(&self, kept: &LogItem) -> bool {
        let announced = self.members[usize::from(kept.message.producer.slot)].announced;
        announced - kept.at <= self.ring_bytes
    }

    /// The offset at which a lapped reader continues: half a log behind the end, as far as the found word and the
    /// tail show where that is.
    fn resume_reading(&self, offset: u64) -> u64 {
        let overwriter = self.end - 1 - (self.end - 1 - offset) % self.log_entries;
        let tail = self.end - self.end % 8;
        let known_end = tail.max(overwriter + 1);
        (offset + 1).max(known_end.saturating_sub(self.log_entries / 2))
    }

    /// The next record of these topics from `next` on, which moves.
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
