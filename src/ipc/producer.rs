//! The writing side of one member: a record into its ring, then its word into the log.

use super::extent::Extent;
use super::layout::RING_STEPS;
use super::log::{Log, LogDamage, LogEntry, POS_MASK};
use super::parts::Parts;
use super::record::{Draft, Member, RecordHeader, record_bytes};
use super::ring::Ring;

/// Where this member's ring and its last record stand. One thread at a time.
#[derive(Debug)]
pub(super) struct Producer {
    member: Member,
    /// What it may use of its ring.
    extent: Extent,
    /// Where the next record goes, if it fits there.
    pos: u64,
    /// Not above the end of the log: behind the last record that this member published.
    next: u64,
    /// For each step of the ring, an offset above those of all records that begin in what now lies
    /// there.
    marks: [u64; RING_STEPS],
    /// The step of the last record.
    step: u64,
    /// See [`Producer::quarter_ring_back`].
    quarter_back: u64,
    /// See [`Producer::must_be_read`].
    eighth_back: u64,
}

/// What a publisher knows besides the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublishHints {
    /// An offset that somebody here has read up to: a hint for the search of the end.
    pub(super) seen: u64,
    /// See [`super::clock`]; 0: nobody wants to know.
    pub(super) seconds: u32,
}

impl Producer {
    /// Goes on where the last life of the slot ended, whatever it died in.
    pub(super) fn resume(parts: Parts<'_>, member: Member) -> Producer {
        Producer::resume_in(parts.log(), parts.ring(member.slot), member)
    }

    /// The same, over just what it takes of a segment.
    pub(super) fn resume_in(log: Log<'_>, ring: Ring<'_>, member: Member) -> Producer {
        let end = log.end(0);
        Producer {
            member,
            extent: Extent::whole(ring.bytes() as usize),
            pos: ring.resume(),
            next: end,
            marks: [end; RING_STEPS], // all that earlier lives of the slot have left
            step: 0,
            quarter_back: 0,
            eighth_back: 0,
        }
    }

    /// From now on it uses no more of its ring than that.
    pub(super) fn within(self, extent: Extent) -> Producer {
        Producer { extent, ..self }
    }

    /// Publishes a record whose sizes have been checked, and returns its offset. Before it
    /// overwrites records, `keep` is told an offset below which they all are.
    #[inline]
    pub(super) fn publish(
        &mut self,
        parts: Parts<'_>,
        draft: &Draft<'_>,
        now: PublishHints,
        keep: impl FnOnce(u64),
    ) -> Result<u64, LogDamage> {
        let ring = parts.ring(self.member.slot);
        self.publish_in(parts.log(), ring, draft, now, keep)
    }

    /// The same, over just what it takes of a segment.
    #[inline]
    pub(super) fn publish_in(
        &mut self,
        log: Log<'_>,
        ring: Ring<'_>,
        draft: &Draft<'_>,
        now: PublishHints,
        keep: impl FnOnce(u64),
    ) -> Result<u64, LogDamage> {
        let body = draft.frame_bytes() + draft.topic.len();
        let header = RecordHeader {
            pos: self.place(ring, record_bytes(body)),
            floor: self.next.max(now.seen).max(log.tail()),
            topic_hash: draft.topic_hash,
            exclude_session: draft.exclude_session,
            frame_len: draft.frame_bytes() as u32,
            topic_len: draft.topic.len() as u8,
            flags: draft.flags,
            incarnation: self.member.incarnation,
            seconds: now.seconds,
        };
        let lost = ring.next_steps(header.pos.wrapping_add(record_bytes(body) as u64));
        let marks = lost
            .take(RING_STEPS)
            .map(|step| self.marks[step as usize % RING_STEPS]);
        if let Some(mark) = marks.max() {
            keep(mark);
        }
        self.pos = ring.write(header, draft);
        let entry = LogEntry {
            tag: draft.topic_hash as u8,
            slot: self.member.slot,
            pos: header.pos & POS_MASK,
        };
        let offset = log.commit(header.floor, entry)?;
        self.next = offset + 1;
        let step = ring.step(header.pos);
        if step != self.step {
            self.pass_to(step);
        }
        self.marks[step as usize % RING_STEPS] = self.next;
        Ok(offset)
    }

    /// Where the next record goes, of so many bytes.
    #[inline]
    fn place(&mut self, ring: Ring<'_>, bytes: usize) -> u64 {
        let pos = ring.place(self.pos, bytes, self.extent.bytes());
        if pos == self.pos || self.extent.bytes() == ring.bytes() {
            return pos;
        }
        // Once in a lap, while not all of the ring is reserved.
        self.extent.grow(ring.within(self.pos) + bytes as u64);
        ring.place(self.pos, bytes, self.extent.bytes())
    }

    /// The last record begins in another step. A large record spans many steps, and may have left as many
    /// unused at the ring's end: those have the mark of the last step before them in which a record begins, so
    /// that marks grow from step to step.
    fn pass_to(&mut self, step: u64) {
        let last = self.marks[self.step as usize % RING_STEPS];
        let passed = step.wrapping_sub(self.step).min(RING_STEPS as u64);
        for back in 1..passed {
            self.marks[step.wrapping_sub(back) as usize % RING_STEPS] = last;
        }
        self.step = step;
        self.quarter_back = self.above(RING_STEPS / 4);
        self.eighth_back = self.above(RING_STEPS / 8);
    }

    /// An offset above those of all records that begin so many steps or more before the last one.
    fn above(&self, back: usize) -> u64 {
        self.marks[self.step.wrapping_sub(back as u64) as usize % RING_STEPS]
    }

    /// Who has not read up to here is an eighth of the ring, or of the log, behind what this member has
    /// published. In the ring it moves on in steps, the first of which is free.
    #[inline]
    pub(super) fn must_be_read(&self, log: Log<'_>) -> u64 {
        let end = self.next.max(log.tail());
        self.eighth_back.max(end.saturating_sub(log.capacity() / 8))
    }

    /// Who has not read up to here has a quarter of the ring to read, at least. Moves on in steps.
    #[inline]
    pub(super) fn quarter_ring_back(&self) -> u64 {
        self.quarter_back
    }
}
