//! Who is attached, and who died.
//!
//! A member is alive as long as the kernel holds its **token**: a lock on one byte of the segment's
//! file, owned by an open file description that only that member has. The kernel drops it when the
//! process is gone, in whatever way it went; no clock, pid or time-out decides. Whoever holds the
//! token of a slot may change the slot, so members, claimers and reapers exclude each other.

use std::{fs, process};

#[cfg(not(loom))]
use super::error::BusError;
#[cfg(not(loom))]
use super::file::SegmentFile;
use super::layout::{
    INCARNATION, MAX_MEMBERS, MEMBER_WORDS, PID, PIPE_FD, PIPE_INODE, Parts, START_TIME, STATE,
};
#[cfg(not(loom))]
use super::pipe::Pipe;
use super::record::Member;
use super::sync::{AtomicU64, Ordering};

const FREE: u64 = 0;
const TAKEN: u64 = 1;

/// How others reach a member, as it stands in the table. Nothing in it is to be trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    pub(super) pid: u64,
    /// In clock ticks since boot: tells a process from one that got its pid later.
    pub(super) start_time: u64,
    pub(super) pipe_fd: u64,
    pub(super) pipe_inode: u64,
}

impl Identity {
    /// This process, with that pipe.
    #[cfg(not(loom))]
    pub(super) fn of(pipe: &Pipe) -> Identity {
        Identity {
            pid: u64::from(process::id()),
            start_time: start_time().unwrap_or(0),
            pipe_fd: pipe.number(),
            pipe_inode: pipe.inode(),
        }
    }
}

/// Field 22 of /proc/self/stat. The name in field 2 may hold anything, so count behind its end.
fn start_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// The member table, over words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Table<'a> {
    pub(super) fn new(words: &'a [AtomicU64]) -> Table<'a> {
        Table { words }
    }

    fn word(&self, slot: u8, field: usize) -> &'a AtomicU64 {
        &self.words[usize::from(slot) * MEMBER_WORDS + field]
    }

    pub(super) fn is_taken(&self, slot: u8) -> bool {
        // [M4] Pairs with [M3].
        self.word(slot, STATE).load(Ordering::Acquire) != FREE
    }

    /// Which life of this slot it is, or was last.
    pub(super) fn incarnation(&self, slot: u8) -> u32 {
        // [M2] Pairs with [M1]: the identity read after this is of this life or a later one.
        self.word(slot, INCARNATION).load(Ordering::Acquire) as u32
    }

    pub(super) fn identity(&self, slot: u8) -> Identity {
        let field = |field| self.word(slot, field).load(Ordering::Relaxed);
        Identity {
            pid: field(PID),
            start_time: field(START_TIME),
            pipe_fd: field(PIPE_FD),
            pipe_inode: field(PIPE_INODE),
        }
    }

    /// Begins the next life of a slot. The caller holds its token, and nobody lives there.
    fn enter(&self, slot: u8, identity: Identity) -> Member {
        let incarnation = self.incarnation(slot).wrapping_add(1).max(1);
        let set = |field, value| self.word(slot, field).store(value, Ordering::Relaxed);
        set(PID, identity.pid);
        set(START_TIME, identity.start_time);
        set(PIPE_FD, identity.pipe_fd);
        set(PIPE_INODE, identity.pipe_inode);
        // [M1] Pairs with [M2].
        self.word(slot, INCARNATION)
            .store(u64::from(incarnation), Ordering::Release);
        // [M3] Pairs with [M4]: who sees the slot taken sees by whom.
        self.word(slot, STATE).store(TAKEN, Ordering::Release);
        Member { slot, incarnation }
    }
}

/// Removes what a member left, when it leaves or after it died. The caller holds its token. Dying
/// in here is harmless: the slot counts as taken until the end, and the next reaper starts again.
pub(super) fn clean(parts: Parts<'_>, slot: u8) {
    parts.sleepers().forget(slot);
    parts.counters(slot).keep_pace(None);
    // [M3] Pairs with [M4]: who sees the slot free finds nothing of the last member.
    let state = parts.table().word(slot, STATE);
    state.store(FREE, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::layout::Layout;
    use crate::ipc::layout::tests::plain_words;

    #[test]
    fn this_process_knows_when_it_started() {
        assert!(start_time().expect("/proc/self/stat has 52 fields") > 0);
    }

    #[test]
    fn a_new_life_has_the_next_incarnation_and_its_own_identity() {
        let layout = Layout::new(4096, 64).expect("the smallest");
        let words = plain_words(layout);
        let parts = Parts::new(&words, layout);
        let identity = Identity {
            pid: 1,
            start_time: 2,
            pipe_fd: 3,
            pipe_inode: 4,
        };
        assert!(!parts.table().is_taken(5));
        let first = parts.table().enter(5, identity);
        assert_eq!(
            first,
            Member {
                slot: 5,
                incarnation: 1
            }
        );
        assert!(parts.table().is_taken(5));
        assert_eq!(parts.table().identity(5), identity);
        clean(parts, 5);
        assert!(!parts.table().is_taken(5));
        let second = parts.table().enter(5, identity);
        assert_eq!(second.incarnation, 2);
        parts
            .table()
            .word(5, INCARNATION)
            .store(u64::from(u32::MAX), Ordering::Relaxed);
        assert_eq!(
            parts.table().enter(5, identity).incarnation,
            1,
            "0 is nobody"
        );
    }
}
