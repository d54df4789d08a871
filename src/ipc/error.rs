//! The errors of the bus. Each message names the fault and the remedy.

use std::io;
use std::path::PathBuf;

use super::layout::{
    LOG_ENTRIES, MAX_HISTORY_BYTES, MAX_MEMBERS, MAX_NAME_BYTES, MAX_RULES, MAX_TOPIC_BYTES,
    MIN_HISTORY_BYTES, RING_BYTES, RING_TIMES_LOG,
};
use super::shortage::Shortage;
use super::units::Bytes;

/// The error that a bus could not be opened or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The name is not allowed.
    #[error(
        "{name:?} cannot name a bus. A name has 1 to {MAX_NAME_BYTES} of the characters A-Z, a-z, \
         0-9, '.', '_' and '-', and does not start with '.'."
    )]
    Name {
        /// The given value.
        name: String,
    },

    /// A size of the options is not allowed.
    #[error(
        "A bus cannot have rings of {ring_bytes} bytes and a log of {log_entries} entries. Both must \
         be powers of two, a ring from {} to {}, the log from {} to {} entries, and the one times \
         the other at most 2^{}.",
        Bytes(RING_BYTES.start as u64), Bytes(RING_BYTES.end as u64 - 1),
        LOG_ENTRIES.start, LOG_ENTRIES.end - 1, RING_TIMES_LOG.ilog2()
    )]
    Sizes {
        /// The given value.
        ring_bytes: usize,
        /// The given value.
        log_entries: usize,
    },

    /// The size of the history is not allowed.
    #[error(
        "A bus cannot have a history of {}. The size must be 0, for none, or from {} to {}.",
        Bytes(*history_bytes as u64), Bytes(MIN_HISTORY_BYTES as u64), Bytes(MAX_HISTORY_BYTES as u64)
    )]
    HistorySize {
        /// The given value.
        history_bytes: usize,
    },

    /// The pattern of a rule is not allowed.
    #[error(
        "{pattern:?} is not a pattern of topics. A pattern is a topic's name of 1 to {MAX_TOPIC_BYTES} bytes, in which \
         {{anything in braces}} stands for any characters."
    )]
    Pattern {
        /// The given value.
        pattern: String,
    },

    /// The bus was created without space for a history.
    #[error(
        "The bus {name:?} was created without space for a history. Stop the processes that use it, and \
         create it with a history size above 0."
    )]
    NoHistory {
        /// The name of the bus.
        name: String,
    },

    /// The bus has too many retention rules.
    #[error(
        "The bus {name:?} has {MAX_RULES} retention rules, which is the limit. Let one \
         pattern stand for several topics: \"room:{{room}}\"."
    )]
    TooManyRules {
        /// The name of the bus.
        name: String,
    },

    /// The bus would not fit into /dev/shm. Nothing was created.
    #[error("{0}")]
    DoesNotFit(Shortage),

    /// /dev/shm is full.
    #[error(
        "Cannot reserve {} for the bus {name:?} in /dev/shm: {} are free. Use a smaller --bus-size, \
         or enlarge /dev/shm (Docker: --shm-size).",
        Bytes(*bytes), Bytes(*free)
    )]
    OutOfMemory {
        /// The name of the bus.
        name: String,
        /// The bytes that could not be reserved: the log, or this member's ring.
        bytes: u64,
        /// The bytes that are free in /dev/shm.
        free: u64,
    },

    /// The name belongs to another user.
    #[error(
        "{} belongs to user {owner}, and this process runs as user {user}. A bus connects processes \
         of one user; choose another name.",
        path.display()
    )]
    OtherOwner {
        /// The path of the segment.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The effective user id of this process.
        user: u32,
    },

    /// Other users may access the segment.
    #[error(
        "{} has mode {mode:03o}, and a bus has 600: others could read or change it. Was it made by \
         something else? Remove it, or choose another name.",
        path.display()
    )]
    OtherMode {
        /// The path of the segment.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// Processes of another version of Fanbus use the bus.
    #[error(
        "The bus {name:?} is in use by another version of Fanbus (its memory layout is {found}, ours \
         is {ours}). Stop the processes that use it, or choose another name."
    )]
    OtherLayout {
        /// The name of the bus.
        name: String,
        /// Layout version of the segment.
        found: u64,
        /// Layout version of this program.
        ours: u64,
    },

    /// The bus is in use, and its header is damaged.
    #[error(
        "The bus {name:?} is in use, but its memory is damaged. Stop the processes that use it; the \
         next one that opens it creates it again."
    )]
    Damaged {
        /// The name of the bus.
        name: String,
    },

    /// All member slots are taken by living members.
    #[error(
        "The bus {name:?} has {MAX_MEMBERS} members, which is the limit. Close it in another process first."
    )]
    Full {
        /// The name of the bus.
        name: String,
    },

    /// All member slots that are not reserved for a server are taken by living members.
    #[error(
        "The bus {name:?} has no place left for this process: {reserved} of {MAX_MEMBERS} places are reserved for \
         its server, and all others are taken. Close the bus in another process first; `fanbus bus show {name}` \
         lists them."
    )]
    FullForGuests {
        /// The name of the bus.
        name: String,
        /// The number of reserved slots.
        reserved: u32,
    },

    /// Another process has been opening or removing the bus for too long.
    #[error(
        "Another process is opening or removing the bus {name:?} and does not finish. Is it \
         stopped? `fuser /dev/shm/fanbus.{name}` shows who uses it."
    )]
    Busy {
        /// The name of the bus.
        name: String,
    },

    /// The bus cannot be removed, because living members use it.
    #[error(
        "The bus {name:?} is in use by {members} {}. Stop {} first.",
        if *members == 1 { "process" } else { "processes" },
        if *members == 1 { "it" } else { "them" }
    )]
    InUse {
        /// The name of the bus.
        name: String,
        /// Their number.
        members: usize,
    },

    /// There is no bus of this name.
    #[error("There is no bus {name:?}. Is its server running, under this user?")]
    NotFound {
        /// The name of the bus.
        name: String,
    },

    /// The bus was opened before a fork, by the parent process.
    #[error("This bus was opened before a fork; the child process must open it itself.")]
    Forked,

    /// The segment could not be mapped.
    #[error("Cannot map the memory of the bus {name:?}: {source}.")]
    Mapping {
        /// The name of the bus.
        name: String,
        /// The error of `shared_memory`.
        source: shared_memory::ShmemError,
    },

    /// Another error of the operating system.
    #[error("Cannot {doing} {}: {source}.", path.display())]
    Os {
        /// The action that failed.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// The error that a record was not published. No part of it is on the bus then.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The frame is larger than the ring allows.
    #[error(
        "A message of {bytes} bytes is larger than the {limit} bytes that this bus carries. Send \
         less, or use a larger --bus-size (a message may have a quarter of it)."
    )]
    TooLarge {
        /// Bytes of the frame.
        bytes: usize,
        /// See [`super::Bus::max_message_bytes`].
        limit: usize,
    },

    /// The topic's name is not allowed.
    #[error("A topic must be 1 to {MAX_TOPIC_BYTES} bytes of UTF-8 without control characters.")]
    BadTopic,

    /// The bus was opened before a fork, by the parent process.
    #[error("This bus was opened before a fork; the child process must open it itself.")]
    Forked,

    /// This process is the supervisor of a server, which has no ring.
    #[error(
        "The supervisor of a server cannot publish. Publish in a worker or in another process."
    )]
    NoRing,

    /// The bus was removed while this process had it open.
    #[error("This bus was removed. Open it again to join the new one.")]
    Removed,

    /// The log has a content that no publisher could have written.
    #[error(
        "The memory of the bus is damaged: something other than Fanbus wrote into it. Stop all its \
         processes; the next one that opens it creates it again."
    )]
    Damaged,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_about_a_full_dev_shm_has_figures_and_a_way_out() {
        let error = BusError::OutOfMemory {
            name: "chat".into(),
            bytes: 96 << 20,
            free: 64_487_424,
        };
        assert_eq!(
            error.to_string(),
            "Cannot reserve 96 MiB for the bus \"chat\" in /dev/shm: 61.5 MiB are free. Use a \
             smaller --bus-size, or enlarge /dev/shm (Docker: --shm-size)."
        );
    }

    #[test]
    fn messages_name_the_limits() {
        let sizes = BusError::Sizes {
            ring_bytes: 5,
            log_entries: 6,
        }
        .to_string();
        assert!(
            sizes.contains("from 4 KiB to 1 GiB, the log from 64 to 16777216"),
            "{sizes}"
        );
        assert!(sizes.ends_with("at most 2^41."), "{sizes}");
        let large = PublishError::TooLarge {
            bytes: 3 << 20,
            limit: 2 << 20,
        }
        .to_string();
        assert!(large.starts_with("A message of 3145728 bytes is larger than the 2097152 bytes"));
        assert!(
            BusError::Full { name: "a".into() }
                .to_string()
                .contains("64 members")
        );
    }
}
