//! The directory of buses: which there are, and their contents. An inspection joins no bus and wakes no member.
//!
//! The report may be outdated when it is read, and the contents of the segments are not trusted.

use std::io;
use std::time::Instant;

use super::counters::Counts;
use super::error::BusError;
use super::file::{SegmentFile, is_name, names};
use super::history::contents::HistoryContents;
use super::layout::{MAX_MEMBERS, PAGE_BYTES, WORD_BYTES};
use super::open::{DOOR_TIMEOUT, SegmentHeader, read_header};
use super::parts::{Fate, Parts};
use super::segment::Mapping;

/// A bus, as an inspection found it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BusInfo {
    /// The name that opens it.
    pub name: String,
    /// Memory that is reserved for it in `/dev/shm`.
    pub reserved_bytes: u64,
    /// The living members, by slot. Empty: the bus waits for the next process to open it.
    pub members: Vec<MemberInfo>,
    /// Its contents. `None`: it is just being created, or by another version of Fanbus, or damaged.
    pub contents: Option<Contents>,
}

/// A living member of a bus.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemberInfo {
    /// The number of its slot, below 64.
    pub slot: u8,
    /// The id of its process, as the member wrote it. 0: not written yet.
    pub pid: u32,
    /// Its counts since it joined.
    pub counts: Counts,
}

/// The sizes and the state of a bus, from its header and its log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contents {
    /// The epoch: nanoseconds since 1970 at its creation.
    pub epoch: u64,
    /// The offset that the next record will get.
    pub end: u64,
    /// Bytes of each member's ring.
    pub ring_bytes: usize,
    /// Entries of the log.
    pub log_entries: usize,
    /// The number of slots that are reserved for the processes of a server, including those that these have.
    pub reserved: u32,
    /// The history. `None`: this bus was created without one.
    pub history: Option<HistoryContents>,
}

/// All buses of this user, by name. Buses that vanish or refuse meanwhile are left out.
pub fn buses() -> io::Result<Vec<BusInfo>> {
    let names = names()?;
    Ok(names.iter().filter_map(|name| inspect(name).ok()).collect())
}

/// One bus, by its name.
pub fn inspect(name: &str) -> Result<BusInfo, BusError> {
    let file = find(name)?;
    let held = living(&file)?;
    let mapping = if file.bytes()? < PAGE_BYTES as u64 {
        None
    } else {
        Some(Mapping::new(name, &file)?)
    };
    let parts = mapping.as_ref().and_then(|mapping| {
        let words = mapping.words();
        match read_header(words) {
            SegmentHeader::Sound { layout, epoch }
                if words.len() * WORD_BYTES >= layout.total_bytes() =>
            {
                Some((Parts::new(words, layout), epoch))
            }
            _ => None,
        }
    });
    let pid_of = |slot| parts.map_or(0, |(parts, _)| parts.table().identity(slot).pid as u32);
    let attendant = |slot| MemberInfo {
        slot,
        pid: pid_of(slot),
        counts: parts.map_or_else(Counts::default, |(parts, _)| parts.counters(slot).counts()),
    };
    let reserved = |parts: Parts<'_>| {
        let is_in_force = held.iter().any(|slot| parts.reserved() >> slot & 1 == 1);
        if is_in_force {
            parts.reserved().count_ones()
        } else {
            0
        }
    };
    Ok(BusInfo {
        name: name.into(),
        reserved_bytes: file.reserved_bytes()?,
        members: held.iter().map(|slot| attendant(*slot)).collect(),
        contents: parts.map(|(parts, epoch)| Contents {
            epoch,
            end: parts.log().end(0),
            ring_bytes: parts.layout().ring_bytes(),
            log_entries: parts.layout().log_entries(),
            reserved: reserved(parts),
            history: parts.history().map(|it| it.contents()),
        }),
    })
}

/// Removes a bus with all its contents. One with living members only with `although_used`: these members can still
/// use it, and later processes get another bus.
pub fn remove(name: &str, although_used: bool) -> Result<(), BusError> {
    let file = find(name)?;
    file.lock_door(Instant::now() + DOOR_TIMEOUT)?;
    if !file.is_still_named()? {
        return Err(BusError::NotFound { name: name.into() });
    }
    let members = living(&file)?.len();
    if members > 0 && !although_used {
        return Err(BusError::InUse {
            name: name.into(),
            members,
        });
    }
    tell_members(name, &file)?;
    file.unlink() // closing the file unlocks the door
}

/// Marks the segment as removed, if it has this version's layout.
fn tell_members(name: &str, file: &SegmentFile) -> Result<(), BusError> {
    if file.bytes()? < PAGE_BYTES as u64 {
        return Ok(());
    }
    let mapping = Mapping::new(name, file)?;
    if let SegmentHeader::Sound { layout, .. } = read_header(mapping.words())
        && mapping.words().len() * WORD_BYTES >= layout.total_bytes()
    {
        Parts::new(mapping.words(), layout).set_fate(Fate::Removed);
    }
    Ok(())
}

fn find(name: &str) -> Result<SegmentFile, BusError> {
    if !is_name(name) {
        return Err(BusError::Name { name: name.into() });
    }
    let file = SegmentFile::open(name)?.ok_or_else(|| BusError::NotFound { name: name.into() })?;
    file.check_owner()?;
    Ok(file)
}

/// The slots whose tokens a process holds.
fn living(file: &SegmentFile) -> Result<Vec<u8>, BusError> {
    let mut slots = Vec::new();
    for slot in 0..MAX_MEMBERS as u8 {
        if file.is_token_held(slot)? {
            slots.push(slot);
        }
    }
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::counters::Counter;
    use crate::ipc::layout::Layout;
    use crate::ipc::layout::first_bytes;
    use crate::ipc::{Bus, BusOptions, Draft, topic_hash};

    const OPTIONS: BusOptions = BusOptions {
        ring_bytes: 64 << 10,
        log_entries: 1 << 10,
        history_bytes: 128 << 10,
    };

    fn open(test: &str) -> Bus {
        let name = format!("directory-{test}-{}", std::process::id());
        Bus::open(&name, &OPTIONS).expect("memory in /dev/shm")
    }

    #[test]
    fn a_bus_is_found_with_its_members_and_contents() {
        let bus = open("found");
        let second = Bus::attach(bus.name()).expect("it is there");
        let draft = Draft {
            topic: "t",
            topic_hash: topic_hash(b"t"),
            flags: 0,
            exclude_session: 0,
            frame: [b"", b"hello"],
        };
        bus.publish(&draft).expect("a sound log");
        let all = buses().expect("/dev/shm");
        let found = all.iter().find(|found| found.name == bus.name());
        let found = found.expect("it is listed");
        let pid = std::process::id();
        let places: Vec<_> = found.members.iter().map(|it| (it.slot, it.pid)).collect();
        assert_eq!(places, [(0, pid), (1, pid)]);
        let counts = found.members[0].counts;
        assert_eq!(
            (
                counts.get(Counter::Published),
                counts.get(Counter::PublishedBytes)
            ),
            (1, 5)
        );
        assert_eq!(found.members[1].counts, Counts::default());
        let contents = Contents {
            epoch: bus.epoch(),
            end: 1,
            ring_bytes: OPTIONS.ring_bytes,
            log_entries: OPTIONS.log_entries,
            reserved: 0,
            history: found.contents.as_ref().and_then(|it| it.history.clone()),
        };
        let history = contents.history.clone().expect("space for one");
        assert_eq!(
            (history.rules.len(), history.topics, history.used_bytes),
            (0, 0, 0)
        );
        assert_eq!(found.contents, Some(contents));
        let layout = Layout::new(OPTIONS.ring_bytes, OPTIONS.log_entries).expect("allowed");
        let reserved = layout.fixed_bytes() + 2 * first_bytes(OPTIONS.ring_bytes);
        assert_eq!(found.reserved_bytes, reserved as u64);
        drop(second);
        let found = inspect(bus.name()).expect("it is there");
        assert_eq!(found.members.len(), 1);
        bus.remove().expect("ours");
    }

    #[test]
    fn an_inspection_joins_no_bus() {
        let bus = open("looking");
        for _ in 0..100 {
            inspect(bus.name()).expect("it is there");
        }
        assert_eq!(inspect(bus.name()).expect("it is there").members.len(), 1);
        assert_eq!(bus.reap(), 0);
        bus.remove().expect("ours");
    }

    #[test]
    fn a_bus_in_use_is_removed_only_with_the_flag() {
        let bus = open("in-use");
        let refused = remove(bus.name(), false).expect_err("we use it");
        assert!(matches!(refused, BusError::InUse { members: 1, .. }));
        assert!(
            refused
                .to_string()
                .ends_with("by 1 process. Stop it first.")
        );
        remove(bus.name(), true).expect("on purpose");
        assert!(matches!(
            inspect(bus.name()),
            Err(BusError::NotFound { .. })
        ));
    }

    #[test]
    fn an_abandoned_bus_is_removed() {
        let name = {
            let bus = open("abandoned");
            bus.name().to_owned()
        };
        assert_eq!(inspect(&name).expect("it stays").members, []);
        remove(&name, false).expect("it is unused");
        assert!(matches!(
            remove(&name, false),
            Err(BusError::NotFound { .. })
        ));
    }

    #[test]
    fn a_file_that_is_not_a_bus_is_listed_without_contents_and_removed() {
        let name = format!("directory-garbage-{}", std::process::id());
        let file = SegmentFile::create(&name).expect("memory").expect("new");
        file.set_bytes(2 * PAGE_BYTES).expect("memory");
        drop(file);
        let found = inspect(&name).expect("it is there");
        assert_eq!((found.members, found.contents), (vec![], None));
        remove(&name, false).expect("it is unused");
    }

    #[test]
    fn invalid_names_are_refused() {
        for name in ["", "../x", ".hidden"] {
            assert!(matches!(inspect(name), Err(BusError::Name { .. })));
            assert!(matches!(remove(name, true), Err(BusError::Name { .. })));
        }
    }
}
