//! Readers that publishers may wait for: the hubs of a server.
//!
//! To publish takes a microsecond, to deliver takes ten for each session. So whoever publishes in a loop
//! would overtake every hub before one of them has looked. A member may therefore say how far it has
//! read, and everybody can see who is so far behind that waiting helps: a publisher that may block
//! waits for hubs that come on ([`super::patience`]), and a worker takes in less from its clients.
//!
//! It is advice. A word that lies costs a pause, or an overtaken reader; whoever waits sets a limit to it.

use nix::unistd::gettid;

use super::bus::Bus;
use super::layout::MAX_MEMBERS;
use super::wake::slots;

/// A reader that is a quarter of a ring or of the log from what is written now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PacedReader {
    /// Which member.
    pub slot: u8,
    /// It has read everything before this offset.
    pub offset: u64,
}

impl Bus {
    /// Says that a reader of this member, on this thread, has read everything before `offset`, and that
    /// publishers who can wait should, if it falls far behind. A member has one such reader at most.
    pub fn begin_pace(&self, offset: u64) {
        if !self.is_forked() {
            let id = gettid().as_raw();
            self.counters().set_thread(u64::from(id.unsigned_abs()));
            self.keep_pace(offset);
        }
    }

    /// Says that it has read everything before `offset`. Some stores.
    #[inline]
    pub fn keep_pace(&self, offset: u64) {
        if !self.is_forked() {
            self.counters().set_pace(Some(offset));
            self.counters().advance_beat();
        }
    }

    /// Says that the reader comes on, although it has not read any further: what it does with what it
    /// has read takes long. One store.
    #[inline]
    pub fn beat(&self) {
        if !self.is_forked() {
            self.counters().advance_beat();
        }
    }

    /// Says that nobody here reads any more whom publishers should wait for.
    pub fn end_pace(&self) {
        if !self.is_forked() {
            self.counters().set_pace(None);
        }
    }

    /// Whether somebody ceased to wait for this member's reader because it stood still, since it last
    /// [caught up](Bus::report_caught_up): its process was stopped, or stuck.
    pub fn was_abandoned(&self) -> bool {
        self.counters().abandoned_at().is_some()
    }

    /// The reader that keeps pace is at the end of the bus, and has missed nothing that it has not told.
    #[inline]
    pub fn report_caught_up(&self) {
        if self.was_abandoned() && !self.is_forked() {
            self.counters().clear_abandoned();
        }
    }

    /// Says that nobody needs to wait for that straggler until it comes on.
    pub fn abandon(&self, straggler: PacedReader) {
        let counters = self.parts().counters(straggler.slot);
        counters.abandon(counters.beat());
    }

    /// Who has not read up to here is a quarter of this member's ring, or of the log, behind what
    /// is published. It moves on in steps of a 64th of the ring or the log: a few loads to ask often.
    pub fn slow_below(&self) -> u64 {
        let log = self.parts().log();
        let step = log.capacity() / 64;
        let in_log = log.tail().saturating_sub(log.capacity() / 4) / step * step;
        self.quarter_ring_back().max(in_log)
    }

    /// Wakes the members that called [`Bus::keep_pace`], sleep, and have not read up to `slow_below`. What they
    /// want would have woken them; but they have to go past the rest too, before it is overwritten.
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

    /// The members that called [`Bus::keep_pace`], are awake, and have not read up to `slow_below`. One
    /// that sleeps has nothing to read: what it wants would have woken it.
    pub fn slow_readers(&self, slow_below: u64) -> impl Iterator<Item = PacedReader> {
        let parts = self.parts();
        let (table, sleepers) = (parts.table(), parts.sleepers());
        (0..MAX_MEMBERS as u8).filter_map(move |slot| {
            let offset = parts.counters(slot).pace()?;
            let straggles =
                offset < slow_below && table.is_taken(slot) && !sleepers.is_asleep(slot);
            straggles.then_some(PacedReader { slot, offset })
        })
    }
}
