//! The task of one process of a run, and its report.

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
    /// The folder of the sockets and pipes of this run.
    pub(crate) folder: PathBuf,
    /// The name of the bus, the service, the channel or the subject. No other run has it.
    pub(crate) name: String,
    /// The address of the broker, if the contender has one.
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

/// The pace of a producer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Pace {
    /// At intervals, spinning in between.
    Spinning { interval_ns: u64, for_ns: u64 },
    /// At intervals, sleeping in between.
    Sleeping { interval_ns: u64, for_ns: u64 },
    /// As fast as the window allows.
    Flat { for_ns: u64 },
}

/// The action of a reader without messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) enum Patience {
    /// Polls again.
    Spin,
    /// Polls again, and yields its CPU now and then.
    Yield,
    /// Sleeps until it is woken.
    Sleep,
}

/// The report of a producer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    pub(crate) begin_ns: u64,
    pub(crate) cpu_ns: u64,
    /// The part of `cpu_ns` for waiting for readers.
    pub(crate) waiting_ns: u64,
}

/// The report of a reader.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Received {
    pub(crate) messages: u64,
    /// Sent and never received.
    pub(crate) missing: u64,
    /// Not the next message of its producer: out of order, or twice.
    pub(crate) misplaced: u64,
    /// Lost messages that the transport itself reported.
    pub(crate) lagged: u64,
    pub(crate) end_ns: u64,
    pub(crate) cpu_ns: u64,
    /// One-way latencies: nanoseconds, and the number of messages with it.
    pub(crate) latencies: Vec<(u64, u64)>,
}

impl Task {
    /// Runs the task, led by lines on standard input.
    pub(crate) fn play(&self) -> Outcome<()> {
        clock::pin(self.cpu)?;
        match self.role {
            Role::Producer => transport::with_publisher(self, producer::Producing(self)),
            Role::Reader => transport::with_reader(self, reader::Reading(self)),
        }
    }
}
