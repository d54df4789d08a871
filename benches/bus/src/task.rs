//! What one process of a run does, as it is handed to it, and what it hands back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plan::Contender;
use crate::{Outcome, clock, producer, reader, transport};

/// The part of a process in a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) contender: Contender,
    pub(crate) role: Role,
    /// Number of this producer or reader.
    pub(crate) number: usize,
    pub(crate) producers: usize,
    pub(crate) readers: usize,
    /// Bytes of each message.
    pub(crate) bytes: usize,
    pub(crate) pace: Pace,
    pub(crate) patience: Patience,
    pub(crate) cpu: usize,
    /// Where sockets and pipes of this run are.
    pub(crate) folder: PathBuf,
    /// Of the bus, the service, the channel or the subject: no other run has it.
    pub(crate) name: String,
    /// Where the broker listens, if the contender has one.
    pub(crate) broker: Option<String>,
    /// Messages that a producer may be ahead of the slowest reader.
    pub(crate) window: u64,
    /// Bytes of each of Fanbus's rings.
    pub(crate) ring_bytes: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum Role {
    Producer,
    Reader,
}

/// When a producer publishes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// Every so often, having spun in between.
    Spinning { interval_ns: u64, for_ns: u64 },
    /// Every so often, having slept in between.
    Sleeping { interval_ns: u64, for_ns: u64 },
    /// As often as the window allows.
    Flat { for_ns: u64 },
}

/// What a reader does while there is nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum Patience {
    /// Looks again.
    Spin,
    /// Looks again, and lets others run now and then.
    Yield,
    /// Sleeps until it is woken.
    Sleep,
}

/// What a producer did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    pub(crate) begin_ns: u64,
    pub(crate) cpu_ns: u64,
    /// How much of `cpu_ns` went into waiting for readers.
    pub(crate) waiting_ns: u64,
}

/// What a reader got.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) messages: u64,
    /// Sent and never seen.
    pub(crate) missing: u64,
    /// Not the next of its producer: out of order, or doubled.
    pub(crate) misplaced: u64,
    /// What the transport itself said was lost.
    pub(crate) lagged: u64,
    pub(crate) end_ns: u64,
    pub(crate) cpu_ns: u64,
    /// One-way latencies: nanoseconds, and how many had them.
    pub(crate) latencies: Vec<(u64, u64)>,
}

impl Task {
    /// Plays the part, led by the lines that come on the standard input.
    pub(crate) fn play(&self) -> Outcome<()> {
        clock::pin(self.cpu)?;
        match self.role {
            Role::Producer => transport::with_publisher(self, producer::Producing(self)),
            Role::Reader => transport::with_reader(self, reader::Reading(self)),
        }
    }
}
