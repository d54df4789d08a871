//! The plan of the measurement: the rows of the tables, and the contenders of each.

use serde::{Deserialize, Serialize};

use crate::task::Patience;

/// A transport between processes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub(crate) enum Contender {
    Fanbus,
    Iceoryx,
    Socket,
    Pipe,
    Redis,
    Nats,
}

impl Contender {
    pub(crate) const ALL: [Contender; 6] = [
        Contender::Fanbus,
        Contender::Iceoryx,
        Contender::Socket,
        Contender::Pipe,
        Contender::Redis,
        Contender::Nats,
    ];

    /// Its name in the head of a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Contender::Fanbus => "Fanbus",
            Contender::Iceoryx => "iceoryx2",
            Contender::Socket => "Unix socket",
            Contender::Pipe => "pipe",
            Contender::Redis => "Redis",
            Contender::Nats => "NATS",
        }
    }

    /// Whether a server sits between the processes.
    pub(crate) fn has_broker(self) -> bool {
        matches!(self, Contender::Redis | Contender::Nats)
    }

    /// Whether readers poll shared memory, so that a poll needs no system call.
    fn shares_memory(self) -> bool {
        matches!(self, Contender::Fanbus | Contender::Iceoryx)
    }
}

/// A kind of row, without the size of the messages.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) enum Work {
    /// Latency to a reader that polls, on another CPU.
    Busy,
    /// Latency to a reader that sleeps, on another CPU.
    AsleepApart,
    /// Latency to a reader that sleeps, on the same CPU.
    AsleepTogether,
    /// Deliveries per second.
    Throughput { producers: usize, readers: usize },
}

/// One row.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) bytes: usize,
}

const SIZES: [usize; 5] = [64, 128, 1 << 10, 64 << 10, 1 << 20];
const CROWDS: [(usize, usize); 5] = [(1, 1), (2, 2), (4, 4), (1, 4), (4, 1)];

/// The rows that show the cost of producers for each other, beside those with one and four above.
const PRODUCERS: [usize; 4] = [2, 8, 16, 32];
/// Bytes of their messages.
pub(crate) const CONTENDED_BYTES: usize = 128;

/// Most bytes of all rings of a run together.
const ALL_RINGS_BYTES: usize = 64 << 20;

/// All rows, in the order of the tables.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |work, sizes: &[usize]| {
        cases.extend(sizes.iter().map(|bytes| Case {
            work,
            bytes: *bytes,
        }));
    };
    add(Work::Busy, &SIZES);
    add(Work::AsleepTogether, &[128, 1 << 10]);
    add(Work::AsleepApart, &[128, 1 << 10, 64 << 10]);
    for (producers, readers) in CROWDS {
        add(Work::Throughput { producers, readers }, &SIZES);
    }
    for producers in PRODUCERS {
        let readers = 1;
        add(Work::Throughput { producers, readers }, &[CONTENDED_BYTES]);
    }
    cases
}

impl Work {
    pub(crate) fn producers(self) -> usize {
        match self {
            Work::Throughput { producers, .. } => producers,
            _ => 1,
        }
    }

    pub(crate) fn readers(self) -> usize {
        match self {
            Work::Throughput { readers, .. } => readers,
            _ => 1,
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Work::Busy => "reader busy".into(),
            Work::AsleepApart => "reader asleep, another CPU".into(),
            Work::AsleepTogether => "reader asleep, same CPU".into(),
            Work::Throughput { producers, readers } => format!("{producers} to {readers}"),
        }
    }
}

impl Case {
    pub(crate) fn name(self) -> String {
        format!("{}, {}", self.work.name(), size_name(self.bytes))
    }

    /// A broker needs a CPU, while a producer and a reader that spin take the other two. The cost of producers for
    /// each other is a question about Fanbus's log.
    pub(crate) fn has(self, contender: Contender) -> bool {
        if self.work.producers() > 4 || (self.work.producers(), self.work.readers()) == (2, 1) {
            return contender == Contender::Fanbus;
        }
        self.work != Work::Busy || !contender.has_broker()
    }

    /// Bytes of each of Fanbus's rings: as requested, or less if there are many.
    pub(crate) fn ring_bytes(self, wish: usize) -> usize {
        let members = self.work.producers() + self.work.readers();
        let most = (ALL_RINGS_BYTES / members + 1).next_power_of_two() / 2;
        if members > 8 { wish.min(most) } else { wish }
    }

    /// The action of a reader without messages: the one that gives the transport its best figures.
    pub(crate) fn patience(self, contender: Contender) -> Patience {
        match self.work {
            Work::Busy => Patience::Spin,
            Work::Throughput { .. } if contender.shares_memory() => Patience::Yield,
            _ => Patience::Sleep,
        }
    }

    /// Messages that a producer may be ahead: at most half of Fanbus's log for all producers
    /// together, and half of its ring for each. The same for every contender.
    pub(crate) fn window(self, ring_bytes: usize) -> u64 {
        let options = fanbus::ipc::BusOptions::default();
        let record_bytes = self.bytes + 128;
        let log = options.log_entries / 2 / self.work.producers();
        let ring = ring_bytes / 2 / record_bytes;
        log.min(ring).max(1) as u64
    }
}

pub(crate) fn size_name(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}
