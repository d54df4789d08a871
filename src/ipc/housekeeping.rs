//! The methods of an open bus that maintain it: cleaning up after dead members, reserving slots, removal.

use std::time::Instant;

use super::bus::{Bus, lock};
use super::error::BusError;
use super::membership;
use super::open;
use super::parts::Fate;
use super::record::Member;
use super::reservation;
use super::wake::slots;

impl Bus {
    /// Cleans up after members that died. If there were any, wakes all sleepers: a dead member may have published a
    /// record without waking anyone. Returns the number of dead members.
    ///
    /// Two system calls for each other member. Meant for a tick, or for the moment when a child has died.
    pub fn reap(&self) -> usize {
        self.reap_members().len()
    }

    /// As [`Bus::reap`], and returns the dead members. Each dead member is returned to one caller only.
    pub fn reap_members(&self) -> Vec<Member> {
        if self.is_forked() {
            return Vec::new();
        }
        let died = {
            let _housekeeping = lock(&self.shared.housekeeping);
            let own_slot = self.shared.member.slot;
            membership::reap(self.shared.segment.file(), self.parts(), own_slot)
        };
        for member in &died {
            self.shared.pipes.close(member.slot);
        }
        if !died.is_empty() {
            // Not by `wake_members`: a mark may have come from the dead one, without its wake-up.
            self.send_wakeup_to_all();
        }
        died
    }

    /// For a supervisor that is about to start a worker: reserves slots for this number of members, itself included,
    /// and the memory of their rings.
    ///
    /// May wait up to ten seconds for another process that is just opening the bus.
    pub fn reserve_places(&self, members: usize) -> Result<(), BusError> {
        if self.is_forked() {
            return Err(BusError::Forked);
        }
        let _housekeeping = lock(&self.shared.housekeeping);
        let file = self.shared.segment.file();
        file.lock_door(Instant::now() + open::DOOR_TIMEOUT)?;
        let own = self.shared.member.slot;
        let reserved = reservation::reserve_for(file, self.parts(), own, members);
        file.unlock_door()?;
        reserved
    }

    /// Removes the bus, so that the next process to open its name gets a new, empty one. Members that have it open
    /// cannot publish any more, see [`Bus::fate`].
    pub fn remove(&self) -> Result<(), BusError> {
        if self.is_forked() {
            return Err(BusError::Forked);
        }
        open::remove(self.shared.segment.file(), self.parts())?;
        self.send_wakeup_to_all();
        Ok(())
    }

    /// As [`Bus::remove`], unless another member is attached: then nothing happens, and the result is false. For a
    /// clean stop: other members may continue, and the next process to open the bus joins them.
    pub fn remove_if_unused(&self) -> Result<bool, BusError> {
        if self.is_forked() {
            return Err(BusError::Forked);
        }
        open::remove_if_unused(self.shared.segment.file(), self.parts())
    }

    /// Whether the bus was removed or damaged: it then takes no more records. `None`: it is in order.
    pub fn fate(&self) -> Option<Fate> {
        self.parts().fate()
    }

    /// Whether the name still leads to this bus. If not, a process that opens the name gets another bus.
    pub fn is_still_named(&self) -> Result<bool, BusError> {
        self.shared.segment.file().is_still_named()
    }

    /// Whether the member in `slot` lives. If its token cannot be checked, it counts as alive.
    pub(super) fn is_alive(&self, slot: u8) -> bool {
        let is_own = slot == self.shared.member.slot;
        let file = self.shared.segment.file();
        is_own || file.is_token_held(slot).unwrap_or(true)
    }

    fn send_wakeup_to_all(&self) {
        for slot in slots(self.parts().sleepers().all()) {
            self.send_wakeup(slot);
        }
    }
}
