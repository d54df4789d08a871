//! The ledger that records which receiver got which messages. It accounts for every message at
//! every receiver.
//!
//! It does not allocate while the messages arrive in order: it records only the messages that were
//! passed over.

use std::collections::{BTreeMap, HashSet, VecDeque};

/// The number of gaps that are recorded for each receiver; a gap is a run of passed-over messages.
/// Beyond that, the ledger drops the oldest gap: its messages count as missing. If they arrive
/// later, they count as duplicates.
const MAX_HOLES: usize = 65_536;

/// A connection that receives messages.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// By publisher: its first message that has neither arrived nor been passed over.
    next: Vec<u64>,
    /// The messages that were passed over and have not arrived. The key is the publisher and the
    /// first such message; the value is the first message after them.
    holes: BTreeMap<(usize, u64), u64>,
    arrived: u64,
    /// How often a message arrived before its predecessor from the same publisher.
    pub gaps: u64,
    /// Messages that arrived after a later one of the same publisher.
    pub late: u64,
    /// Messages that arrived again.
    pub duplicates: u64,
    /// A hash of the message numbers, in the order of their first arrival.
    order: u64,
}

impl Receiver {
    /// Publishers send in turn: message `n` belongs to publisher `n` modulo their number.
    pub fn new(publishers: usize) -> Self {
        Self {
            next: vec![0; publishers],
            holes: BTreeMap::new(),
            arrived: 0,
            gaps: 0,
            late: 0,
            duplicates: 0,
            order: 0,
        }
    }

    /// Counts a message that arrived; false if it had arrived before.
    pub fn take(&mut self, number: u64) -> bool {
        let publishers = self.next.len() as u64;
        let publisher = (number % publishers) as usize;
        let at = number / publishers;
        let next = &mut self.next[publisher];
        if at < *next {
            if !self.fill(publisher, at) {
                self.duplicates += 1;
                return false;
            }
            self.late += 1;
        } else {
            if at > *next {
                self.gaps += 1;
                self.holes.insert((publisher, *next), at);
                if self.holes.len() > MAX_HOLES {
                    self.holes.pop_first();
                }
            }
            *next = at + 1;
        }
        self.arrived += 1;
        self.order = (self.order.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        true
    }

    /// Removes a message from the passed-over messages; false if it is not among them.
    fn fill(&mut self, publisher: usize, at: u64) -> bool {
        let before = self.holes.range(..=(publisher, at)).next_back();
        let Some((&(of, begin), &end)) = before else {
            return false;
        };
        if of != publisher || at >= end {
            return false;
        }
        self.holes.remove(&(of, begin));
        if begin < at {
            self.holes.insert((of, begin), at);
        }
        if at + 1 < end {
            self.holes.insert((of, at + 1), end);
        }
        true
    }

    /// The number of different messages that arrived.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// The number of the `sent` messages that have not arrived.
    pub fn missing(&self, sent: u64) -> u64 {
        sent - self.arrived
    }
}

/// The number of different orders among the receivers that got all messages. A receiver with
/// missing messages is left out: they count as missing, and not as another order.
pub fn orders<'r>(receivers: impl IntoIterator<Item = &'r Receiver>, sent: u64) -> u64 {
    let complete = receivers
        .into_iter()
        .filter(|receiver| receiver.arrived == sent);
    let orders: HashSet<u64> = complete.map(|receiver| receiver.order).collect();
    orders.len() as u64
}

/// The messages that were sent and have not reached all their receivers.
#[derive(Default, Debug)]
pub struct Outstanding {
    /// The number of the first message in `left`.
    first: u64,
    /// For each message from `first` on: the number of receivers that it has not reached.
    left: VecDeque<u32>,
    /// The number of entries in `left` that are not 0.
    in_flight: usize,
}

impl Outstanding {
    /// Counts a message that is sent to this number of receivers. Returns the number of the
    /// message.
    pub fn send(&mut self, receivers: usize) -> u64 {
        self.left.push_back(receivers as u32);
        self.in_flight += usize::from(receivers > 0);
        self.sent() - 1
    }

    /// The number of messages that were sent.
    pub fn sent(&self) -> u64 {
        self.first + self.left.len() as u64
    }

    /// The number of messages that have not reached all their receivers.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Gives up the messages that have not arrived.
    pub fn forget(&mut self) {
        self.first = self.sent();
        self.left.clear();
        self.in_flight = 0;
    }

    /// Counts the arrival of a message at one more receiver.
    pub fn take(&mut self, number: u64) {
        let at = number.checked_sub(self.first).map(|at| at as usize);
        let Some(left) = at
            .and_then(|at| self.left.get_mut(at))
            .filter(|left| **left > 0)
        else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            self.in_flight -= 1;
        }
        while self.left.front() == Some(&0) {
            self.left.pop_front();
            self.first += 1;
        }
    }
}
