//! The bus: shared memory that carries records between processes. It knows no runtime, no HTTP, no Python.
//!
//! ```text
//!   publish ──> this member's ring           header, frame, topic            ring, record, copy
//!           └─> the log, shared by all       one word; its index is the offset            log
//!           └─> sleepers with interest       a byte into their pipe               wake, pipe
//!
//!   next    <── the log                      one order for all readers                 cursor
//!           <── the producer's ring          copied, then checked                        ring
//! ```
//!
//! Before records with a retention rule are overwritten, the publisher copies them into the `history`.
//!
//! No process depends on another one: a producer overwrites its oldest record, and a reader that was overtaken learns
//! how many records it missed. Publishers that may block wait a limited time for hubs that make progress (`pace`,
//! `backpressure`), so that a burst overtakes no hub. A process may die at any instruction. `docs/bus.md` lists the
//! effect of each death, the layout of the memory word by word, and the barriers in pairs.
//!
//! The algorithms run over slices of atomics and do not know that these are shared memory. The content of a segment is
//! not trusted: no pattern of bytes makes a reader panic, loop without end or read out of bounds.

// Under `cfg(loom)` there is no segment, and no module that needs one: the models in `proofs` run the algorithms over
// loom's atomics. Functions that only other modules call are unused then.
#![cfg_attr(loom, allow(dead_code, unused_imports))]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "The bus needs Linux: locks of open file descriptions, /proc/PID/fd and /dev/shm. On other \
     systems Fanbus runs as one process, which is not built yet."
);

#[cfg(not(loom))]
mod backpressure;
#[cfg(not(loom))]
mod bus;
#[cfg(not(loom))]
mod clock;
mod copy;
mod counters;
mod cursor;
#[cfg(not(loom))]
mod directory;
#[cfg(not(loom))]
mod error;
mod extent;
#[cfg(not(loom))]
mod file;
#[cfg(not(loom))]
mod fork;
#[cfg(all(any(fuzzing, test), not(loom)))]
pub mod fuzzed;
mod history;
#[cfg(not(loom))]
mod housekeeping;
#[cfg(not(loom))]
mod hub_notes;
#[cfg(not(loom))]
mod joining;
mod layout;
mod log;
mod members;
mod membership;
#[cfg(all(test, not(loom)))]
mod model;
#[cfg(not(loom))]
mod open;
#[cfg(not(loom))]
mod pace;
#[cfg(not(loom))]
mod parker;
mod parts;
#[cfg(not(loom))]
mod pipe;
mod producer;
#[cfg(all(test, loom))]
mod proofs;
#[cfg(not(loom))]
mod reading;
mod record;
#[cfg(all(test, not(loom)))]
mod reference;
#[cfg(not(loom))]
mod reservation;
#[cfg(not(loom))]
mod retention;
mod ring;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
mod shortage;
#[cfg(not(loom))]
mod sizes;
#[cfg(not(loom))]
mod subscriber;
mod sync;
#[cfg(not(loom))]
mod units;
#[cfg(not(loom))]
mod wait_queue;
mod wake;

#[cfg(not(loom))]
pub use backpressure::{AbandonedHub, Publication};
#[cfg(not(loom))]
pub use bus::Bus;
pub use counters::{Counter, Counts, Unit};
pub use cursor::{Next, ReadAt};
#[cfg(not(loom))]
pub use directory::{BusInfo, Contents, MemberInfo, buses, inspect, remove};
#[cfg(not(loom))]
pub use error::{BusError, PublishError};
#[cfg(not(loom))]
pub use history::{
    contents::HistoryContents,
    replay::{Replay, ReplayRange, ReplayRecord},
    rules::RetentionRule,
};
#[cfg(not(loom))]
pub use joining::{BusOptions, ServerNeeds};
pub use layout::{MAX_MEMBERS, MAX_RULES, MAX_TOPIC_BYTES};
#[cfg(not(loom))]
pub use pace::PacedReader;
#[cfg(not(loom))]
pub use parker::Parker;
pub use parts::Fate;
pub use record::{Draft, Head, Member, topic_hash};
#[cfg(not(loom))]
pub use shortage::Shortage;
#[cfg(not(loom))]
pub use subscriber::Subscriber;
