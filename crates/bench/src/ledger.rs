//! Who got what: every message at every receiver is accounted for.
//!
//! Nothing is allocated while all goes well: only what was passed over is kept.

use std::collections::{BTreeMap, HashSet, VecDeque};

/// How many stretches of passed-over messages are kept for each receiver. Beyond that, the oldest is
/// given up: it is missing, and counts as a duplicate should it come after all.
const MAX_HOLES: usize = 65_536;

/// A connection that gets messages.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// By publisher: its first message that has neither come nor been passed over.
    next: Vec<u64>,
    /// What was passed over and has not come: by publisher and first message, the first after it.
    holes: BTreeMap<(usize, u64), u64>,
    arrived: u64,
    /// How often a message came whose predecessor, of the same publisher, had not.
    pub gaps: u64,
    /// Messages that came after a later one of the same publisher.
    pub late: u64,
    /// Messages that came again.
    pub duplicates: u64,
    /// A hash of the numbers, in the order in which they came first.
    order: u64,
}

impl Receiver {
    /// Publishers send in turn: message `n` is that of publisher `n` modulo their number.
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

    /// Takes a message that was sent; false if it had come before.
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

    /// Takes a message out of what was passed over; false if it is not there.
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

    /// How many different messages came.
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// How many of `sent` messages have not come.
    pub fn missing(&self, sent: u64) -> u64 {
        sent - self.arrived
    }
}

/// In how many different orders the messages came, among those who got all of them: what is missing
/// somewhere is counted as missing, and not as another order.
pub fn orders<'r>(receivers: impl IntoIterator<Item = &'r Receiver>, sent: u64) -> u64 {
    let complete = receivers
        .into_iter()
        .filter(|receiver| receiver.arrived == sent);
    let orders: HashSet<u64> = complete.map(|receiver| receiver.order).collect();
    orders.len() as u64
}

/// What was sent, and has not reached everybody.
#[derive(Default, Debug)]
pub struct Outstanding {
    /// The number of the first message in `left`.
    first: u64,
    /// For each message from `first` on: how many receivers it has still to reach.
    left: VecDeque<u32>,
    /// How many of `left` are not 0.
    in_flight: usize,
}

impl Outstanding {
    /// Another message is sent, to so many receivers; returns its number.
    pub fn send(&mut self, receivers: usize) -> u64 {
        self.left.push_back(receivers as u32);
        self.in_flight += usize::from(receivers > 0);
        self.sent() - 1
    }

    /// How many have been sent.
    pub fn sent(&self) -> u64 {
        self.first + self.left.len() as u64
    }

    /// How many have not reached everybody.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Gives up what has not arrived.
    pub fn forget(&mut self) {
        self.first = self.sent();
        self.left.clear();
        self.in_flight = 0;
    }

    /// A message has come to one more receiver.
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
