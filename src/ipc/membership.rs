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

/// Removes what a member left, when it leaves or after it died. The caller holds its token. Dying
/// in here is harmless: the slot counts as taken until the end, and the next reaper starts again.
pub(super) fn clean(parts: Parts<'_>, slot: u8) {
    parts.sleepers().remove_member(slot);
    parts.counters(slot).set_pace(None);
    parts.table().leave(slot);
}

/// Takes the first of the slots that nobody lives in, and keeps its token. `None`: all are alive.
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

/// Cleans after every member that died. Only one thread of a process at a time: tokens do not exclude
/// threads that share a file description.
///
/// A lock that cannot be asked about leaves a dead member to the next reaper.
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
        // Can only fail if the descriptor is none, and then the kernel dropped the token with it.
        let _ = file.drop_token(slot);
    }
    died
}
