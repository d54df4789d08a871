//! What can go wrong, in sentences for the person who can do something about it.

use std::io;
use std::path::PathBuf;

use super::layout::{
    LOG_ENTRIES, MAX_HISTORY_BYTES, MAX_MEMBERS, MAX_NAME_BYTES, MAX_RULES, MAX_TOPIC_BYTES,
    MIN_HISTORY_BYTES, RING_BYTES, RING_TIMES_LOG,
};
use super::shortage::Shortage;
use super::units::Bytes;

/// Why a bus could not be opened or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The name is not allowed.
    #[error(
        "{name:?} cannot name a bus. A name has 1 to {MAX_NAME_BYTES} of the characters A-Z, a-z, \
         0-9, '.', '_' and '-', and does not start with '.'."
    )]
    Name {
        /// As it was given.
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
        /// As it was given.
        ring_bytes: usize,
        /// As it was given.
        log_entries: usize,
    },

    /// The size of the history is not allowed.
    #[error(
        "A bus cannot have a history of {}. The size must be 0, for none, or from {} to {}.",
        Bytes(*history_bytes as u64), Bytes(MIN_HISTORY_BYTES as u64), Bytes(MAX_HISTORY_BYTES as u64)
    )]
    HistorySize {
        /// As it was given.
        history_bytes: usize,
    },

    /// The pattern of a rule is not allowed.
    #[error(
        "{pattern:?} is not a pattern of topics. A pattern is a topic's name of 1 to {MAX_TOPIC_BYTES} bytes, in which \
         {{anything in braces}} stands for any characters."
    )]
    Pattern {
        /// As it was given.
        pattern: String,
    },

    /// The bus was created without space for a history.
    #[error(
        "The bus {name:?} was created without space for a history. Stop the processes that use it, and \
         create it with a history size above 0."
    )]
    NoHistory {
        /// Of the bus.
        name: String,
    },

    /// There are too many rules.
    #[error(
        "The bus {name:?} has {MAX_RULES} retention rules, which is the limit. Let one \
         pattern stand for several topics: \"room:{{room}}\"."
    )]
    TooManyRules {
        /// Of the bus.
        name: String,
    },

    /// It would not fit into /dev/shm, and so nothing was made.
    #[error("{0}")]
    DoesNotFit(Shortage),

    /// /dev/shm is full.
    #[error(
        "Cannot reserve {} for the bus {name:?} in /dev/shm: {} are free. Use a smaller --bus-size, \
         or enlarge /dev/shm (Docker: --shm-size).",
        Bytes(*bytes), Bytes(*free)
    )]
    OutOfMemory {
        /// Of the bus.
        name: String,
        /// How much was to be reserved: the log, or this member's ring.
        bytes: u64,
        /// How much /dev/shm has left.
        free: u64,
    },

    /// The name is taken by another user.
    #[error(
        "{} belongs to user {owner}, and this process runs as user {user}. A bus connects processes \
         of one user; choose another name.",
        path.display()
    )]
    OtherOwner {
        /// Of the segment.
        path: PathBuf,
        /// Its user id.
        owner: u32,
        /// Our effective user id.
        user: u32,
    },

    /// The segment is open to others.
    #[error(
        "{} has mode {mode:03o}, and a bus has 600: others could read or change it. Was it made by \
         something else? Remove it, or choose another name.",
        path.display()
    )]
    OtherMode {
        /// Of the segment.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// Processes of another Fanbus are using it.
    #[error(
        "The bus {name:?} is in use by another version of Fanbus (its memory layout is {found}, ours \
         is {ours}). Stop the processes that use it, or choose another name."
    )]
    OtherLayout {
        /// Of the bus.
        name: String,
        /// Layout version of the segment.
        found: u64,
        /// Layout version of this program.
        ours: u64,
    },

    /// It is in use, and its header is not one that Fanbus wrote.
    #[error(
        "The bus {name:?} is in use, but its memory is damaged. Stop the processes that use it; the \
         next one that opens it creates it again."
    )]
    Damaged {
        /// Of the bus.
        name: String,
    },

    /// All member slots are taken by living members.
    #[error(
        "The bus {name:?} has {MAX_MEMBERS} members, which is the limit. Close it in another process first."
    )]
    Full {
        /// Of the bus.
        name: String,
    },

    /// All member slots that are not reserved for a server are taken by living members.
    #[error(
        "The bus {name:?} has no place left for this process: {reserved} of {MAX_MEMBERS} places are reserved for \
         its server, and all others are taken. Close the bus in another process first; `fanbus bus show {name}` \
         lists them."
    )]
    FullForGuests {
        /// Of the bus.
        name: String,
        /// How many places are reserved.
        reserved: u32,
    },

    /// Somebody has been opening or removing it for too long.
    #[error(
        "Another process is opening or removing the bus {name:?} and does not finish. Is it \
         stopped? `fuser /dev/shm/fanbus.{name}` shows who uses it."
    )]
    Busy {
        /// Of the bus.
        name: String,
    },

    /// It was to be removed, and living members use it.
    #[error(
        "The bus {name:?} is in use by {members} {}. Stop {} first.",
        if *members == 1 { "process" } else { "processes" },
        if *members == 1 { "it" } else { "them" }
    )]
    InUse {
        /// Of the bus.
        name: String,
        /// How many.
        members: usize,
    },

    /// There is no such bus to attach to.
    #[error("There is no bus {name:?}. Is its server running, under this user?")]
    NotFound {
        /// Of the bus.
        name: String,
    },

    /// This handle came here by a fork.
    #[error("This bus was opened before a fork; the child process must open it itself.")]
    Forked,

    /// The segment could not be mapped.
    #[error("Cannot map the memory of the bus {name:?}: {source}.")]
    Mapping {
        /// Of the bus.
        name: String,
        /// What `shared_memory` says.
        source: shared_memory::ShmemError,
    },

    /// Anything else that the operating system refuses.
    #[error("Cannot {doing} {}: {source}.", path.display())]
    Os {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Why a record was not published. Nothing of it is on the bus then.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The frame is larger than the ring allows.
    #[error(
        "A message of {bytes} bytes is larger than the {limit} bytes that this bus carries. Send \
         less, or use a larger --bus-size (a message may have a quarter of it)."
    )]
    TooLarge {
        /// Of the frame.
        bytes: usize,
        /// See [`super::Bus::max_message_bytes`].
        limit: usize,
    },

    /// The topic's name is not allowed.
    #[error("A topic must be 1 to {MAX_TOPIC_BYTES} bytes of UTF-8 without control characters.")]
    BadTopic,

    /// This handle came here by a fork.
    #[error("This bus was opened before a fork; the child process must open it itself.")]
    Forked,

    /// This process looks after a server's workers, and has no ring.
    #[error(
        "The supervisor of a server cannot publish. Publish in a worker or in another process."
    )]
    NoRing,

    /// It was removed while this process had it open.
    #[error("This bus was removed. Open it again to join the new one.")]
    Removed,

    /// The log holds what no publisher could have written.
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
    fn a_full_memory_is_a_sentence_with_figures_and_a_way_out() {
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
    fn every_limit_is_named_in_its_sentence() {
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
