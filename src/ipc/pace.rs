//! Readers that publishers may wait for: the hubs of a server.
//!
//! The bus itself never waits: who falls behind is overtaken, and told. But a worker that takes in what
//! its clients send can choose to take in less while another worker cannot keep pace. So a member may
//! say how far it has read, and everybody can see who is so far behind that waiting would help.
//!
//! It is advice. A word that lies costs a pause, or an overtaken reader; whoever waits sets a limit to it.

use super::bus::Bus;
use super::layout::MAX_MEMBERS;

/// A reader that is a quarter of a ring or of the log from what is written now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Straggler {
    /// Which member.
    pub slot: u8,
    /// It has read everything before this offset.
    pub offset: u64,
}

impl Bus {
    /// Says that this member has read everything before `offset`, and that publishers who can wait
    /// should, if it falls far behind. One store.
    pub fn keep_pace(&self, offset: u64) {
        if !self.is_forked() {
            self.counters().keep_pace(Some(offset));
        }
    }

    /// Who has not read up to here is a quarter of this member's ring, or of the log, behind what
    /// is published. It moves on in steps of a 64th of the ring or the log: a few loads to ask often.
    pub fn far_back(&self) -> u64 {
        let log = self.parts().log();
        let step = log.capacity() / 64;
        let in_log = log.tail().saturating_sub(log.capacity() / 4) / step * step;
        self.quarter_ring_back().max(in_log)
    }

    /// The members that called [`Bus::keep_pace`], are awake, and have not read up to `far_back`. One
    /// that sleeps has nothing to read: what it wants would have woken it.
    pub fn stragglers(&self, far_back: u64) -> impl Iterator<Item = Straggler> {
        let parts = self.parts();
        let (table, sleepers) = (parts.table(), parts.sleepers());
        (0..MAX_MEMBERS as u8).filter_map(move |slot| {
            let offset = parts.counters(slot).pace()?;
            let straggles = offset < far_back && table.is_taken(slot) && !sleepers.is_asleep(slot);
            straggles.then_some(Straggler { slot, offset })
        })
    }
}
