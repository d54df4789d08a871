//! Who got what: every message at every receiver is accounted for.

use std::collections::{HashSet, VecDeque};

/// A connection that gets messages.
#[derive(Clone)]
pub(crate) struct Receiver {
    /// By publisher: how many of its messages came, or were passed over.
    next: Vec<u64>,
    /// What was passed over, if the order broke or something was lost.
    passed_over: HashSet<u64>,
    pub(crate) duplicates: u64,
    /// A hash of the numbers, in the order in which they came.
    pub(crate) order: u64,
    pub(crate) is_probed: bool,
}

/// What was sent, and has not reached everybody.
#[derive(Default)]
pub(crate) struct Outstanding {
    /// The number of the first message in `left`.
    first: u64,
    /// For each message from `first` on: how many receivers it has still to reach.
    left: VecDeque<u32>,
    /// How many of `left` are not 0.
    pub(crate) in_flight: usize,
}

impl Receiver {
    pub(crate) fn new(publishers: usize) -> Self {
        Self {
            next: vec![0; publishers],
            passed_over: HashSet::new(),
            duplicates: 0,
            order: 0,
            is_probed: false,
        }
    }

    /// Takes a message; false if it had come before. Publishers send in turn, so the number says
    /// whose it is.
    pub(crate) fn take(&mut self, number: u64) -> bool {
        self.order = (self.order.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let publishers = self.next.len() as u64;
        let next = &mut self.next[(number % publishers) as usize];
        let of_publisher = number / publishers;
        if of_publisher < *next {
            let is_late = self.passed_over.remove(&number);
            self.duplicates += u64::from(!is_late);
            return is_late;
        }
        let publisher = number % publishers;
        self.passed_over
            .extend((*next..of_publisher).map(|it| it * publishers + publisher));
        *next = of_publisher + 1;
        true
    }

    pub(crate) fn missing(&self, sent: u64) -> u64 {
        sent + self.passed_over.len() as u64 - self.next.iter().sum::<u64>()
    }
}

impl Outstanding {
    pub(crate) fn send(&mut self, receivers: usize) -> u64 {
        self.left.push_back(receivers as u32);
        self.in_flight += 1;
        self.sent() - 1
    }

    pub(crate) fn sent(&self) -> u64 {
        self.first + self.left.len() as u64
    }

    /// Gives up what has not arrived.
    pub(crate) fn forget(&mut self) {
        self.first = self.sent();
        self.left.clear();
        self.in_flight = 0;
    }

    pub(crate) fn take(&mut self, number: u64) {
        let at = number.checked_sub(self.first).map(|at| at as usize);
        let Some(left) = at.and_then(|at| self.left.get_mut(at)) else {
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
