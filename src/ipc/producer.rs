//! The producer that publishes for one member: it writes a record into its ring, then one word into the log.

use super::extent::Extent;
use super::layout::RING_STEPS;
use super::log::{Log, LogDamage, LogEntry, POS_MASK};
use super::record::{Draft, Member, RecordHeader, record_bytes};
use super::ring::Ring;

/// The state of this member's ring and of its last record. Used by one thread at a time.
#[derive(Debug)]
pub(super) struct Producer {
    member: Member,
    /// The part of the ring that it may use.
    extent: Extent,
    /// The position of the next record, if it fits there.
    pos: u64,
    /// The offset behind the last record of this member. Not above the end of the log.
    next: u64,
    /// For each step of the ring, an offset above those of all records that begin in it now.
    marks: [u64; RING_STEPS],
    /// The step of the last record.
    step: u64,
    /// See [`Producer::quarter_ring_back`].
    quarter_back: u64,
    /// See [`Producer::must_be_read`].
    eighth_back: u64,
}

/// The hints and the time that a publisher passes in with a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublishHints {
    /// An offset up to which a subscriber of this process has read: a hint for the search of the end.
    pub(super) seen: u64,
    /// See [`super::clock`]. 0: the bus has no retention rule.
    pub(super) seconds: u32,
}

impl Producer {
    /// Continues where the last incarnation of the slot ended, wherever it died.
    pub(super) fn resume(log: Log<'_>, ring: Ring<'_>, member: Member) -> Producer {
        let end = log.end(0);
        Producer {
            member,
            extent: Extent::whole(ring.bytes() as usize),
            pos: ring.resume(),
            next: end,
            marks: [end; RING_STEPS], // all records of earlier incarnations of the slot
            step: 0,
            quarter_back: 0,
            eighth_back: 0,
        }
    }

    /// The slot of the member, whose ring [`Producer::publish`] must be given.
    #[inline]
    pub(super) fn slot(&self) -> u8 {
        self.member.slot
    }

    /// The same producer, limited to an extent of its ring.
    pub(super) fn within(self, extent: Extent) -> Producer {
        Producer { extent, ..self }
    }

    /// Publishes a record whose sizes have been checked, and returns its offset. `archive` is called before records
    /// are overwritten, with an offset that is above all of theirs.
    #[inline]
    pub(super) fn publish(
        &mut self,
        log: Log<'_>,
        ring: Ring<'_>,
        draft: &Draft<'_>,
        hints: PublishHints,
        archive: impl FnOnce(u64),
    ) -> Result<u64, LogDamage> {
        let body = draft.frame_bytes() + draft.topic.len();
        let header = RecordHeader {
            pos: self.place(ring, record_bytes(body)),
            floor: self.next.max(hints.seen).max(log.tail()),
            topic_hash: draft.topic_hash,
            exclude_session: draft.exclude_session,
            frame_len: draft.frame_bytes() as u32,
            topic_len: draft.topic.len() as u8,
            flags: draft.flags,
            incarnation: self.member.incarnation,
            seconds: hints.seconds,
        };
        let lost = ring.next_steps(header.pos.wrapping_add(record_bytes(body) as u64));
        let marks = lost
            .take(RING_STEPS)
            .map(|step| self.marks[step as usize % RING_STEPS]);
        if let Some(mark) = marks.max() {
            archive(mark);
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

    /// The position of the next record, which has `bytes` bytes.
    #[inline]
    fn place(&mut self, ring: Ring<'_>, bytes: usize) -> u64 {
        let pos = ring.place(self.pos, bytes, self.extent.bytes());
        if pos == self.pos || self.extent.bytes() == ring.bytes() {
            return pos;
        }
        // Once in a lap, while a part of the ring is not reserved.
        self.extent.grow(ring.within(self.pos) + bytes as u64);
        ring.place(self.pos, bytes, self.extent.bytes())
    }

    /// Notes that the last record begins in another step. A large record spans many steps, and may have left as many
    /// unused at the ring's end. Those get the mark of the last step before them in which a record begins, so that
    /// marks grow from step to step.
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

    /// An offset above those of all records that begin `back` steps or more before the last one.
    fn above(&self, back: usize) -> u64 {
        self.marks[self.step.wrapping_sub(back as u64) as usize % RING_STEPS]
    }

    /// The offset below which all hubs must have read: a reader below it is an eighth of the ring, or of the log,
    /// behind this member. In the ring it moves in steps.
    #[inline]
    pub(super) fn must_be_read(&self, log: Log<'_>) -> u64 {
        let end = self.next.max(log.tail());
        self.eighth_back.max(end.saturating_sub(log.capacity() / 8))
    }

    /// A reader below this offset has at least a quarter of the ring to read. It moves in steps.
    #[inline]
    pub(super) fn quarter_ring_back(&self) -> u64 {
        self.quarter_back
    }
}
