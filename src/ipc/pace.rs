//! The pace of a reader that publishers may wait for: the hub of a worker.
//!
//! A publish takes a microsecond, a delivery takes ten for each session. So a loop of publishes would overtake every
//! hub before it has read one record. A member may therefore report the offset that its hub has reached. A publisher
//! that may block waits for slow hubs that make progress ([`super::backpressure`]), and a worker takes in less from
//! its clients.
//!
//! The pace is advice. A wrong word costs a pause, or an overtaken reader. Publishers limit how long they wait.

use nix::unistd::gettid;

use super::bus::Bus;
use super::layout::MAX_MEMBERS;
use super::wake::slots;

/// A reader with a pace that is a quarter of a ring or of the log behind the records that are written now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PacedReader {
    /// The slot of its member.
    pub slot: u8,
    /// It has read everything before this offset.
    pub offset: u64,
}

impl Bus {
    /// Makes a reader of this member, on this thread, one that publishers may wait for. It has read everything before
    /// `offset`. A member has one such reader at most.
    pub fn begin_pace(&self, offset: u64) {
        if !self.is_forked() {
            let id = gettid().as_raw();
            self.counters().set_thread(u64::from(id.unsigned_abs()));
            self.keep_pace(offset);
        }
    }

    /// Reports that this reader has read everything before `offset`. Some stores.
    #[inline]
    pub fn keep_pace(&self, offset: u64) {
        if !self.is_forked() {
            self.counters().set_pace(Some(offset));
            self.counters().advance_beat();
        }
    }

    /// Reports progress of this reader without a new offset, because its work on the last records takes long. One
    /// store.
    #[inline]
    pub fn beat(&self) {
        if !self.is_forked() {
            self.counters().advance_beat();
        }
    }

    /// Ends the pace: this member no longer has a reader that publishers wait for.
    pub fn end_pace(&self) {
        if !self.is_forked() {
            self.counters().set_pace(None);
        }
    }

    /// Whether a publisher stopped waiting for this member's reader because it made no progress, since it last [caught
    /// up](Bus::report_caught_up): its process was stopped, or stuck.
    pub fn was_abandoned(&self) -> bool {
        self.counters().abandoned_at().is_some()
    }

    /// Reports that this reader is at the end of the bus, and that it has reported all records that it missed.
    #[inline]
    pub fn report_caught_up(&self) {
        if self.was_abandoned() && !self.is_forked() {
            self.counters().clear_abandoned();
        }
    }

    /// Marks a reader as abandoned: no publisher waits for it until it makes progress.
    pub fn abandon(&self, reader: PacedReader) {
        let counters = self.parts().counters(reader.slot);
        counters.abandon(counters.beat());
    }

    /// The offset below which a reader is slow: a quarter of this member's ring, or of the log, behind. It moves in
    /// steps of a 64th of the ring or the log. Costs a few loads.
    pub fn slow_below(&self) -> u64 {
        let log = self.parts().log();
        let step = log.capacity() / 64;
        let in_log = log.tail().saturating_sub(log.capacity() / 4) / step * step;
        self.quarter_ring_back().max(in_log)
    }

    /// Wakes the members that have a pace, sleep, and have not read up to `slow_below`. The records that they want have
    /// woken them, but they must also pass the other records before these are overwritten.
    pub fn wake_slow_readers(&self, slow_below: u64) {
        let (parts, own) = (self.parts(), self.member().slot);
        let asleep = slots(parts.sleepers().all() & !(1 << own));
        for slot in asleep.filter(|slot| parts.table().is_taken(*slot)) {
            if parts
                .counters(slot)
                .pace()
                .is_some_and(|pace| pace < slow_below)
            {
                self.wake_members(1 << slot);
            }
        }
    }

    /// The readers with a pace that are awake and have not read up to `slow_below`. A sleeping one has nothing to read:
    /// the records that it wants would have woken it.
    pub fn slow_readers(&self, slow_below: u64) -> impl Iterator<Item = PacedReader> {
        let parts = self.parts();
        let (table, sleepers) = (parts.table(), parts.sleepers());
        (0..MAX_MEMBERS as u8).filter_map(move |slot| {
            let offset = parts.counters(slot).pace()?;
            let is_slow = offset < slow_below && table.is_taken(slot) && !sleepers.is_asleep(slot);
            is_slow.then_some(PacedReader { slot, offset })
        })
    }
}
