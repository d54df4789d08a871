//! The member table: the identity of each member, and whether its slot is taken.
//!
//! A member is alive as long as the kernel holds its **token**: a lock on one byte of the segment's file, owned by an
//! open file description that only this member has. The kernel releases it when the process has ended, in whatever
//! way. No clock, process id or timeout decides. Only the holder of a slot's token may change the slot, so a member, a
//! process that claims the slot and one that reaps it exclude each other.

use std::{fs, process};

use super::layout::{INCARNATION, MEMBER_WORDS, PID, PIPE_FD, PIPE_INODE, START_TIME, STATE};
use super::record::Member;
use super::sync::{AtomicU64, Ordering};

const FREE: u64 = 0;
const TAKEN: u64 = 1;

/// The process and the pipe of a member, as in the table. They are not trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Identity {
    pub(super) pid: u64,
    /// In clock ticks since boot. It tells a process from a later one with the same pid.
    pub(super) start_time: u64,
    pub(super) pipe_fd: u64,
    pub(super) pipe_inode: u64,
}

impl Identity {
    /// The identity of this process, with the reading end of its pipe.
    #[cfg(not(loom))]
    pub(super) fn of_this_process(pipe_fd: u64, pipe_inode: u64) -> Identity {
        Identity {
            pid: u64::from(process::id()),
            start_time: start_time().unwrap_or(0),
            pipe_fd,
            pipe_inode,
        }
    }
}

/// Field 22 of /proc/self/stat. The name in field 2 may contain anything, so fields are counted behind its end.
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

    /// The incarnation of this slot, or the last one if it is free.
    pub(super) fn incarnation(&self, slot: u8) -> u32 {
        // [M2] Pairs with [M1]: the identity read after this is of this incarnation or a later one.
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

    /// Begins the next incarnation of a slot. The caller holds its token, and the slot is free.
    pub(super) fn enter(&self, slot: u8, identity: Identity) -> Member {
        let incarnation = self.incarnation(slot).wrapping_add(1).max(1);
        let set = |field, value| self.word(slot, field).store(value, Ordering::Relaxed);
        set(PID, identity.pid);
        set(START_TIME, identity.start_time);
        set(PIPE_FD, identity.pipe_fd);
        set(PIPE_INODE, identity.pipe_inode);
        // [M1] Pairs with [M2].
        self.word(slot, INCARNATION)
            .store(u64::from(incarnation), Ordering::Release);
        // [M3] Pairs with [M4]: a process that sees the slot taken sees the identity of its member.
        self.word(slot, STATE).store(TAKEN, Ordering::Release);
        Member { slot, incarnation }
    }

    /// Ends the incarnation of a slot, which is clean. The caller holds its token.
    pub(super) fn leave(&self, slot: u8) {
        // [M3] Pairs with [M4]: a process that sees the slot free finds nothing of the last member.
        self.word(slot, STATE).store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::layout::MAX_MEMBERS;

    #[test]
    fn the_start_time_of_this_process_is_known() {
        assert!(start_time().expect("/proc/self/stat has 52 fields") > 0);
    }

    #[test]
    fn a_new_member_has_the_next_incarnation_and_its_own_identity() {
        let words: Vec<_> = std::iter::repeat_with(|| AtomicU64::new(0))
            .take(MAX_MEMBERS * MEMBER_WORDS)
            .collect();
        let table = Table::new(&words);
        let identity = Identity {
            pid: 1,
            start_time: 2,
            pipe_fd: 3,
            pipe_inode: 4,
        };
        assert!(!table.is_taken(5));
        let first = table.enter(5, identity);
        assert_eq!(
            first,
            Member {
                slot: 5,
                incarnation: 1
            }
        );
        assert!(table.is_taken(5));
        assert_eq!(table.identity(5), identity);
        table.leave(5);
        assert!(!table.is_taken(5));
        let second = table.enter(5, identity);
        assert_eq!(second.incarnation, 2);
        table
            .word(5, INCARNATION)
            .store(u64::from(u32::MAX), Ordering::Relaxed);
        assert_eq!(table.enter(5, identity).incarnation, 1, "0 is never used");
    }
}
