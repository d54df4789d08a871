//! The steps by which a process opens a segment (create, attach, take over), while others do the same or die.
//!
//! They run with the **door** locked. The kernel releases this lock when its holder dies:
//!
//! 1. Open the file, or create it empty, and lock its door.
//! 2. If the name no longer leads to this file, another process removed it meanwhile: start again.
//! 3. Judge the file. Sound: use it. Empty: build it. Anything else, without a living member: unlink it and start
//!    again. A file is never rebuilt in place, because a child forked from a dead member may still have it mapped.
//! 4. Take a slot, and unlock the door. A server reserves slots for its processes first.
//!
//! The magic number is written last, so a file whose creator died is not sound, and is created again.

use std::ops::Range;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::error::BusError;
use super::file::{SegmentFile, free_bytes};
use super::layout::{
    CHECK_AT, EPOCH_AT, HISTORY_BYTES_AT, LOG_ENTRIES_AT, Layout, MAGIC, MAGIC_AT, PAGE_BYTES,
    RING_BYTES_AT, VERSION, VERSION_AT, WORD_BYTES,
};
use super::membership::claim;
use super::parts::{Fate, Parts};
use super::pipe::Pipe;
use super::record::Member;
use super::reservation::{self, Role, SlotDemand};
use super::segment::{Mapping, Segment};
use super::sizes::SizeRequest;
use super::sync::{AtomicU64, Ordering};

/// Longest wait for the door. A process that holds it needs milliseconds, unless it is stopped.
pub(super) const DOOR_TIMEOUT: Duration = Duration::from_secs(10);

/// The membership of this process in a segment.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) segment: Segment,
    pub(super) member: Member,
    pub(super) pipe: Pipe,
    pub(super) epoch: u64,
}

/// The content of the first page, as far as it can be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SegmentHeader {
    Sound { layout: Layout, epoch: u64 },
    OtherVersion(u64),
    Damaged,
}

/// The way in which a process joins a bus.
#[derive(Clone, Copy, Debug)]
pub(super) struct JoinRequest {
    /// With it, the bus is created if there is none, and a bus without a living member gets these sizes. Without it,
    /// the bus must exist, and is joined as it is.
    pub(super) wish: Option<SizeRequest>,
    pub(super) role: Role,
    /// The slots that are reserved first.
    pub(super) reserves: Option<SlotDemand>,
}

impl JoinRequest {
    /// The request of a program that is not of the bus's server.
    pub(super) fn guest(wish: Option<SizeRequest>) -> JoinRequest {
        JoinRequest {
            wish,
            role: Role::Guest,
            reserves: None,
        }
    }
}

/// Joins the bus `name`.
pub(super) fn open(name: &str, entry: &JoinRequest) -> Result<Membership, BusError> {
    let wish = entry.wish.as_ref();
    let pipe = Pipe::new().map_err(|source| BusError::Os {
        doing: "make a pipe to be woken through, for",
        path: name.into(),
        source,
    })?;
    let deadline = Instant::now() + DOOR_TIMEOUT;
    while Instant::now() < deadline {
        let Some(file) = find(name, wish.is_some())? else {
            continue;
        };
        file.check_owner()?;
        file.lock_door(deadline)?;
        if !file.is_still_named()? {
            continue;
        }
        let alive = file.has_members()?;
        let Some((segment, epoch)) = settle(name, file, wish, alive)? else {
            continue;
        };
        let joined = join(&segment, name, &pipe, entry);
        if joined.is_err() && epoch.is_new {
            segment.file().unlink()?;
        }
        let member = joined?;
        segment.file().unlock_door()?;
        return Ok(Membership {
            segment,
            member,
            pipe,
            epoch: epoch.number,
        });
    }
    Err(BusError::Busy { name: name.into() })
}

/// Opens the file, or creates an empty one. `None`: another process was faster, try again.
fn find(name: &str, create: bool) -> Result<Option<SegmentFile>, BusError> {
    match SegmentFile::open(name)? {
        Some(file) => Ok(Some(file)),
        None if create => SegmentFile::create(name),
        None => Err(BusError::NotFound { name: name.into() }),
    }
}

#[derive(Clone, Copy)]
struct Epoch {
    number: u64,
    is_new: bool,
}

/// Step 3, with the door locked. `None`: the file was not usable and is unlinked, start again.
fn settle(
    name: &str,
    file: SegmentFile,
    wish: Option<&SizeRequest>,
    alive: bool,
) -> Result<Option<(Segment, Epoch)>, BusError> {
    if file.bytes()? == 0
        && !alive
        && let Some(wish) = wish
    {
        return build(name, file, wish).map(Some);
    }
    let found = if file.bytes()? < PAGE_BYTES as u64 {
        None
    } else {
        Some(Mapping::new(name, &file)?)
    };
    let header = found.as_ref().map_or(SegmentHeader::Damaged, |mapping| {
        read_header(mapping.words())
    });
    match (header, found) {
        (SegmentHeader::Sound { layout, epoch }, Some(mapping))
            if mapping.words().len() * WORD_BYTES >= layout.total_bytes() =>
        {
            let parts = Parts::new(mapping.words(), layout);
            if parts.fate() == Some(Fate::Removed) {
                // The process that marked it died before it unlinked the name.
                file.unlink()?;
                return Ok(None);
            }
            // The sizes of living members win. A bus without members stays if it is in order and its sizes match.
            let is_damaged = parts.fate().is_some();
            if alive && is_damaged {
                return Err(BusError::Damaged { name: name.into() });
            }
            let is_sound = || !is_damaged && parts.log().is_sound();
            let room = free_bytes().saturating_add(file.reserved_bytes()?);
            let will_do = |wish: &SizeRequest| wish.accepts(layout, parts.has_rules(), room);
            if alive || (wish.is_none_or(will_do) && is_sound()) {
                let segment = mapping.into_segment(file, layout);
                return Ok(segment.map(|segment| {
                    (
                        segment,
                        Epoch {
                            number: epoch,
                            is_new: false,
                        },
                    )
                }));
            }
        }
        (SegmentHeader::OtherVersion(found), _) if alive => {
            return Err(BusError::OtherLayout {
                name: name.into(),
                found,
                ours: VERSION,
            });
        }
        _ if alive => return Err(BusError::Damaged { name: name.into() }),
        _ => {}
    }
    if wish.is_none() {
        // This process may not remove it: that is up to the process that starts the server.
        return Err(BusError::NotFound { name: name.into() });
    }
    file.unlink()?;
    Ok(None)
}

/// Turns an empty file into a segment.
fn build(name: &str, file: SegmentFile, wish: &SizeRequest) -> Result<(Segment, Epoch), BusError> {
    let layout = match wish.choose(name, free_bytes()) {
        Ok(layout) => layout,
        Err(error) => {
            file.unlink()?;
            return Err(error);
        }
    };
    let fixed = Range {
        start: 0,
        end: layout.fixed_bytes(),
    };
    let reserved = file
        .set_bytes(layout.total_bytes())
        .and_then(|()| file.reserve(&fixed));
    if let Err(error) = reserved {
        file.unlink()?;
        return Err(error);
    }
    let mapping = Mapping::new(name, &file)?;
    let number = write_header(mapping.words(), layout);
    let segment = mapping
        .into_segment(file, layout)
        .expect("the file was just made that long");
    segment.populate(&fixed);
    Ok((
        segment,
        Epoch {
            number,
            is_new: true,
        },
    ))
}

/// Step 4: takes a slot, and reserves the beginning of its ring.
fn join(
    segment: &Segment,
    name: &str,
    pipe: &Pipe,
    entry: &JoinRequest,
) -> Result<Member, BusError> {
    let (file, parts) = (segment.file(), segment.parts());
    if let Some(need) = entry.reserves {
        reservation::reserve(file, parts, None, need)?;
    }
    let slots = reservation::open_to(entry.role, file, parts)?;
    let Some(member) = claim(file, parts, pipe.identity(), slots)? else {
        let reserved = reservation::in_force(file, parts)?.count_ones();
        let name = name.into();
        return Err(if entry.role == Role::Guest && reserved > 0 {
            BusError::FullForGuests { name, reserved }
        } else {
            BusError::Full { name }
        });
    };
    if entry.role == Role::Supervisor {
        return Ok(member);
    }
    if let Err(error) = segment.reserve(&parts.layout().first_range(member.slot)) {
        super::membership::clean(parts, member.slot);
        return Err(error);
    }
    Ok(member)
}

pub(super) fn read_header(words: &[AtomicU64]) -> SegmentHeader {
    let word = |at: usize| words[at].load(Ordering::Relaxed);
    // [C2] Pairs with [C1]: a process that sees the magic number sees the rest of the header.
    if words[MAGIC_AT].load(Ordering::Acquire) != MAGIC {
        return SegmentHeader::Damaged;
    }
    if word(VERSION_AT) != VERSION {
        return SegmentHeader::OtherVersion(word(VERSION_AT));
    }
    let (ring_bytes, log_entries) = (word(RING_BYTES_AT), word(LOG_ENTRIES_AT));
    let layout = Layout::new(ring_bytes as usize, log_entries as usize);
    let history_bytes = word(HISTORY_BYTES_AT);
    match layout.and_then(|layout| layout.with_history(history_bytes as usize)) {
        Some(layout) if layout.history_bytes() as u64 != history_bytes => SegmentHeader::Damaged,
        Some(layout) if word(CHECK_AT) == check(layout, word(EPOCH_AT)) => SegmentHeader::Sound {
            layout,
            epoch: word(EPOCH_AT),
        },
        _ => SegmentHeader::Damaged,
    }
}

/// Fills the first page, and returns the epoch: nanoseconds since 1970, so that no epoch occurs twice.
fn write_header(words: &[AtomicU64], layout: Layout) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let epoch = now.map_or(1, |since| since.as_nanos() as u64);
    let set = |at: usize, value| words[at].store(value, Ordering::Relaxed);
    set(VERSION_AT, VERSION);
    set(RING_BYTES_AT, layout.ring_bytes() as u64);
    set(LOG_ENTRIES_AT, layout.log_entries() as u64);
    set(HISTORY_BYTES_AT, layout.history_bytes() as u64);
    set(EPOCH_AT, epoch);
    set(CHECK_AT, check(layout, epoch));
    // [C1] Last. Pairs with [C2].
    words[MAGIC_AT].store(MAGIC, Ordering::Release);
    epoch
}

fn check(layout: Layout, epoch: u64) -> u64 {
    let words = [
        VERSION,
        layout.ring_bytes() as u64,
        layout.log_entries() as u64,
        layout.history_bytes() as u64,
        epoch,
    ];
    super::record::topic_hash(&words.map(u64::to_le_bytes).concat())
}

/// Removes the name of a segment, if it still leads to that segment. The segment is marked first, for its members.
pub(super) fn remove(file: &SegmentFile, parts: Parts<'_>) -> Result<(), BusError> {
    file.lock_door(Instant::now() + DOOR_TIMEOUT)?;
    let removed = unlink(file, parts);
    file.unlock_door()?;
    removed
}

/// The same, unless another process is a member: then nothing happens, and the result is false.
pub(super) fn remove_if_unused(file: &SegmentFile, parts: Parts<'_>) -> Result<bool, BusError> {
    file.lock_door(Instant::now() + DOOR_TIMEOUT)?;
    let removed = match file.has_members() {
        Ok(false) => unlink(file, parts).map(|()| true),
        Ok(true) => Ok(false),
        Err(error) => Err(error),
    };
    file.unlock_door()?;
    removed
}

/// Marks a segment as removed, and unlinks its name if it still leads to it. The caller holds the door.
fn unlink(file: &SegmentFile, parts: Parts<'_>) -> Result<(), BusError> {
    parts.set_fate(Fate::Removed);
    if file.is_still_named()? {
        file.unlink()?;
    }
    Ok(())
}
