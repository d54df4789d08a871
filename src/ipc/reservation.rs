//! The reservation of slots for the processes of a server, so that other programs cannot take them.
//!
//! A mask in the first page says which slots are reserved. It is in force while a member has one of them:
//! when the whole server is gone, in whatever way, so is its reservation. A worker that replaces another
//! finds a slot, and memory to begin a ring with, whatever other programs do.
//!
//! Everything here happens behind the door. A process that dies in here leaves a mask with slots that are
//! free: in force or not, it is one that a later `reserve` goes on with.

use std::ops::Range;

use super::error::BusError;
use super::file::SegmentFile;
use super::layout::MAX_MEMBERS;
use super::parts::Parts;
use super::wake::slots;

/// What a process is to the bus that it joins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// A program that is not of the server.
    Guest,
    /// A process that serves.
    Worker,
    /// The process that looks after the workers. It publishes nothing, and has no ring.
    Supervisor,
}

/// How many slots must be free for a server, and how many of these must have a ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SlotDemand {
    /// Fewer of them are an error.
    pub(super) least: usize,
    /// More are good for nothing.
    pub(super) most: usize,
    /// No more than `least`.
    pub(super) rings: usize,
}

const ALL: Range<u8> = 0..MAX_MEMBERS as u8;

/// The slots that living members have, as a mask. The door is held, so none comes to it meanwhile.
fn living(file: &SegmentFile, own: Option<u8>) -> Result<u64, BusError> {
    let mut mask = own.map_or(0, |slot| 1 << slot);
    for slot in ALL {
        if file.is_token_held(slot)? {
            mask |= 1 << slot;
        }
    }
    Ok(mask)
}

/// The mask, if it is in force.
pub(super) fn in_force(file: &SegmentFile, parts: Parts<'_>) -> Result<u64, BusError> {
    let reserved = parts.reserved();
    for slot in slots(reserved) {
        if file.is_token_held(slot)? {
            return Ok(reserved);
        }
    }
    Ok(0)
}

/// Reserves slots until as many as `need` says are free, as far as there are so many, and memory for
/// their rings. `own` is the caller's slot, if it has one.
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
    // Members take the lowest slot first. Above the lowest `least`, nobody relies on a ring.
    let without_rings = need.least - need.rings;
    for slot in slots(free).skip(without_rings).take(need.rings) {
        file.reserve(&parts.layout().first_range(slot))?;
    }
    Ok(())
}

/// Reserves what is missing so that a server can have so many members, those that it has included.
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

/// The slots that a process may take, the best first.
pub(super) fn open_to(
    role: Role,
    file: &SegmentFile,
    parts: Parts<'_>,
) -> Result<impl Iterator<Item = u8>, BusError> {
    let reserved = in_force(file, parts)?;
    let (first, then) = match role {
        Role::Guest => {
            if reserved == 0 {
                // A guest in a slot of a server that is gone would keep its reservation in force.
                parts.set_reserved(0);
            }
            (!reserved, 0)
        }
        Role::Worker | Role::Supervisor if reserved == 0 => (parts.reserved(), u64::MAX),
        Role::Worker | Role::Supervisor => (reserved, u64::MAX),
    };
    Ok(slots(first).chain(slots(then & !first)))
}
