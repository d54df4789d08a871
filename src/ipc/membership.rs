//! The functions that take a slot for a member, clean it, and free the slots of dead members.
//!
//! The holder of a slot's token may change the slot (see [`super::members`]).

#[cfg(not(loom))]
use super::error::BusError;
#[cfg(not(loom))]
use super::file::SegmentFile;
use super::layout::MAX_MEMBERS;
#[cfg(not(loom))]
use super::members::Identity;
use super::parts::Parts;
use super::record::Member;

/// Cleans the slot of a member that leaves or that died. The caller holds its token. A death in here is harmless: the
/// slot counts as taken until the end, and the next process to reap it starts again.
pub(super) fn clean(parts: Parts<'_>, slot: u8) {
    parts.sleepers().remove_member(slot);
    parts.counters(slot).set_pace(None);
    parts.table().leave(slot);
}

/// Takes the first of the slots that has no living member, and holds its token. `None`: all have one.
#[cfg(not(loom))]
pub(super) fn claim(
    file: &SegmentFile,
    parts: Parts<'_>,
    identity: Identity,
    slots: impl Iterator<Item = u8>,
) -> Result<Option<Member>, BusError> {
    for slot in slots {
        if file.take_token(slot)? {
            clean(parts, slot);
            parts.counters(slot).reset();
            return Ok(Some(parts.table().enter(slot, identity)));
        }
    }
    Ok(None)
}

/// Cleans the slots of all members that died, and returns these. Only one thread of a process at a time: tokens do not
/// exclude threads that share a file description.
///
/// If a lock cannot be checked, the slot is left for the next call.
#[cfg(not(loom))]
pub(super) fn reap(file: &SegmentFile, parts: Parts<'_>, own_slot: u8) -> Vec<Member> {
    let mut died = Vec::new();
    for slot in (0..MAX_MEMBERS as u8).filter(|slot| *slot != own_slot) {
        // The token of a living member cannot be taken.
        if !parts.table().is_taken(slot) || !file.take_token(slot).unwrap_or(false) {
            continue;
        }
        // It may have left, or been reaped, since the first look.
        if parts.table().is_taken(slot) {
            let incarnation = parts.table().incarnation(slot);
            clean(parts, slot);
            died.push(Member { slot, incarnation });
        }
        // Can only fail if the descriptor is invalid, and then the kernel has released the token with it.
        let _ = file.release_token(slot);
    }
    died
}
