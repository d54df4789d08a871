//! The reservation of slots for the processes of a server, so that other programs cannot take them.
//!
//! A mask in the first page has the reserved slots. It is in force while a living member has one of them: when all
//! processes of the server have ended, in whatever way, the reservation has ended too. A worker that replaces another
//! finds a slot, and memory for the beginning of a ring, whatever other programs do.
//!
//! All of this happens with the door locked. A process that dies in here leaves a mask with free slots. In force or
//! not, the next `reserve` continues from it.

use std::ops::Range;

use super::error::BusError;
use super::file::SegmentFile;
use super::layout::MAX_MEMBERS;
use super::parts::Parts;
use super::wake::slots;

/// The role of a process on the bus that it joins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// A program that is not of the server.
    Guest,
    /// A process of a server that serves clients.
    Worker,
    /// The process that starts and ends the workers. It publishes nothing, and has no ring.
    Supervisor,
}

/// The slots that a server needs, and the number of them that need a ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SlotDemand {
    /// The minimum. Fewer free slots are an error.
    pub(super) least: usize,
    /// The maximum. More slots are not needed.
    pub(super) most: usize,
    /// Not more than `least`.
    pub(super) rings: usize,
}

const ALL: Range<u8> = 0..MAX_MEMBERS as u8;

/// The slots that have living members, as a mask. The door is locked, so none joins meanwhile.
fn living(file: &SegmentFile, own: Option<u8>) -> Result<u64, BusError> {
    let mut mask = own.map_or(0, |slot| 1 << slot);
    for slot in ALL {
        if file.is_token_held(slot)? {
            mask |= 1 << slot;
        }
    }
    Ok(mask)
}

/// The mask of reserved slots, if it is in force. Otherwise 0.
pub(super) fn in_force(file: &SegmentFile, parts: Parts<'_>) -> Result<u64, BusError> {
    let reserved = parts.reserved();
    for slot in slots(reserved) {
        if file.is_token_held(slot)? {
            return Ok(reserved);
        }
    }
    Ok(0)
}

/// Reserves slots until as many as `need` demands are free, as far as there are any, and memory for their rings.
/// `own` is the caller's slot, if it has one.
pub(super) fn reserve(
    file: &SegmentFile,
    parts: Parts<'_>,
    own: Option<u8>,
    need: SlotDemand,
) -> Result<(), BusError> {
    let living = living(file, own)?;
    let before = parts.reserved();
    let mut reserved = if before & living == 0 { 0 } else { before };
    for slot in ALL.filter(|slot| living >> slot & 1 == 0) {
        if (reserved & !living).count_ones() as usize >= need.most {
            break;
        }
        reserved |= 1 << slot;
    }
    let free = reserved & !living;
    if (free.count_ones() as usize) < need.least {
        return Err(BusError::Full {
            name: file.name().into(),
        });
    }
    parts.set_reserved(reserved);
    // Members take the lowest slot first. No member relies on a ring above the lowest `least`.
    let without_rings = need.least - need.rings;
    for slot in slots(free).skip(without_rings).take(need.rings) {
        file.reserve(&parts.layout().first_range(slot))?;
    }
    Ok(())
}

/// Reserves the missing slots for a server with this number of members, including those that it has.
pub(super) fn reserve_for(
    file: &SegmentFile,
    parts: Parts<'_>,
    own: u8,
    members: usize,
) -> Result<(), BusError> {
    let have = (living(file, Some(own))? & parts.reserved()).count_ones() as usize;
    let missing = members.saturating_sub(have);
    let need = SlotDemand {
        least: missing,
        most: missing,
        rings: missing,
    };
    reserve(file, parts, Some(own), need)
}

/// The slots that a process may take, in order of preference.
pub(super) fn open_to(
    role: Role,
    file: &SegmentFile,
    parts: Parts<'_>,
) -> Result<impl Iterator<Item = u8>, BusError> {
    let reserved = in_force(file, parts)?;
    let (first, then) = match role {
        Role::Guest => {
            if reserved == 0 {
                // A guest in a slot of a server that has ended would hold its reservation in force.
                parts.set_reserved(0);
            }
            (!reserved, 0)
        }
        Role::Worker | Role::Supervisor if reserved == 0 => (parts.reserved(), u64::MAX),
        Role::Worker | Role::Supervisor => (reserved, u64::MAX),
    };
    Ok(slots(first).chain(slots(then & !first)))
}
