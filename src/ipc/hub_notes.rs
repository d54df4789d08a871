//! The notes of one process about the hubs that its publishers may wait for (see [`super::backpressure`]).

use super::layout::MAX_MEMBERS;
use super::sync::{Ordering, process};

/// Notes about hubs, shared by all publishing threads of a process. Relaxed: they are advice.
#[derive(Debug)]
pub(super) struct HubNotes {
    /// At the last look, all hubs that count had read everything before this offset.
    reached: process::AtomicU64,
    /// By slot: the incarnation of a hub that made too little progress, until it has caught up.
    too_slow: [process::AtomicU32; MAX_MEMBERS],
    /// By slot: the incarnation of a hub that was reported as abandoned, until it has caught up.
    reported: [process::AtomicU32; MAX_MEMBERS],
}

impl Default for HubNotes {
    fn default() -> HubNotes {
        HubNotes {
            reached: process::AtomicU64::new(0),
            too_slow: [const { process::AtomicU32::new(0) }; MAX_MEMBERS],
            reported: [const { process::AtomicU32::new(0) }; MAX_MEMBERS],
        }
    }
}

impl HubNotes {
    #[inline]
    pub(super) fn reached(&self) -> u64 {
        self.reached.load(Ordering::Relaxed)
    }

    pub(super) fn note_reached(&self, offset: u64) {
        self.reached.fetch_max(offset, Ordering::Relaxed);
    }

    pub(super) fn note_caught_up(&self, slot: u8) {
        self.too_slow[usize::from(slot)].store(0, Ordering::Relaxed);
        self.reported[usize::from(slot)].store(0, Ordering::Relaxed);
    }

    pub(super) fn is_too_slow(&self, slot: u8, incarnation: u32) -> bool {
        self.too_slow[usize::from(slot)].load(Ordering::Relaxed) == incarnation
    }

    pub(super) fn note_too_slow(&self, slot: u8, incarnation: u32) {
        self.too_slow[usize::from(slot)].store(incarnation, Ordering::Relaxed);
    }

    /// Notes that a hub is reported as abandoned. False: it was before.
    pub(super) fn note_reported(&self, slot: u8, incarnation: u32) -> bool {
        let before = self.reported[usize::from(slot)].swap(incarnation, Ordering::Relaxed);
        before != incarnation
    }
}
