//! The writing side of one member: a record into its ring, then its word into the log.

use super::layout::Parts;
use super::log::{Corrupt, Entry, Log, POS_MASK};
use super::record::{Draft, Header, Member, record_bytes};
use super::ring::Ring;

/// Where this member's ring and its last record stand. One thread at a time.
#[derive(Debug)]
pub(super) struct Producer {
    member: Member,
    /// Where the next record goes, if it fits there.
    pos: u64,
    /// Not above the end of the log: behind the last record that this member published.
    next: u64,
}

impl Producer {
    /// Goes on where the last life of the slot ended, whatever it died in.
    pub(super) fn resume(parts: Parts<'_>, member: Member) -> Producer {
        Producer::resume_in(parts.log(), parts.ring(member.slot), member)
    }

    /// The same, over just what it takes of a segment.
    pub(super) fn resume_in(log: Log<'_>, ring: Ring<'_>, member: Member) -> Producer {
        Producer {
            member,
            pos: ring.resume(),
            next: log.end(0),
        }
    }

    /// Publishes a record whose sizes have been checked, and returns its offset. `seen` is an offset
    /// that somebody here has read up to: a hint for the search of the end.
    #[inline]
    pub(super) fn publish(
        &mut self,
        parts: Parts<'_>,
        draft: &Draft<'_>,
        seen: u64,
    ) -> Result<u64, Corrupt> {
        self.publish_in(parts.log(), parts.ring(self.member.slot), draft, seen)
    }

    /// The same, over just what it takes of a segment.
    #[inline]
    pub(super) fn publish_in(
        &mut self,
        log: Log<'_>,
        ring: Ring<'_>,
        draft: &Draft<'_>,
        seen: u64,
    ) -> Result<u64, Corrupt> {
        let body = draft.frame_bytes() + draft.topic.len();
        let header = Header {
            pos: ring.place(self.pos, record_bytes(body)),
            floor: self.next.max(seen).max(log.tail()),
            topic_hash: draft.topic_hash,
            origin: draft.origin,
            frame_len: draft.frame_bytes() as u32,
            topic_len: draft.topic.len() as u8,
            flags: draft.flags,
            incarnation: self.member.incarnation,
        };
        self.pos = ring.write(header, draft);
        let entry = Entry {
            tag: draft.topic_hash as u8,
            slot: self.member.slot,
            pos: header.pos & POS_MASK,
        };
        let offset = log.commit(header.floor, entry)?;
        self.next = offset + 1;
        Ok(offset)
    }
}
