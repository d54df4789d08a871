//! The pace that tells a worker whether the hubs of the server keep up with the messages published here.
//!
//! A message to many clients costs its publisher little and every hub much. So one client that floods, or a crowd
//! of them, could publish faster than a hub delivers. At some point the ring would overtake that hub, and all of
//! its clients would miss messages. Before that happens, this worker reads no more from its clients, and the flood
//! waits in their sockets.
//!
//! No worker waits for a hub that stands still: a stopped worker delays the others once, for [`PATIENCE`].

use std::pin::Pin;
use std::task;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::ipc::{Bus, PacedReader};

/// The time that a worker waits for a hub that does not move.
const PATIENCE: Duration = Duration::from_secs(1);

/// The time between two looks while a worker waits for a hub.
const RECHECK: Duration = Duration::from_millis(2);

/// The view that this worker has of the pace of all hubs, its own included.
#[derive(Debug)]
pub struct Pace {
    bus: Bus,
    /// Hubs below this offset were far back at the last look.
    slow_below: u64,
    /// The hubs that straggled at the last look, each with the time since when it has stood there.
    stragglers: Vec<(PacedReader, Instant)>,
    /// Set while this worker waits for a hub.
    recheck: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// The pace of the hubs on that bus.
    pub fn new(bus: Bus) -> Self {
        Self {
            bus,
            slow_below: 0,
            stragglers: Vec::new(),
            recheck: None,
        }
    }

    /// True: this worker should read no more from its clients for now, and the task is woken to check again.
    pub fn poll_must_wait(&mut self, task: &mut task::Context<'_>) -> bool {
        let slow_below = self.bus.slow_below();
        if slow_below == self.slow_below && self.stragglers.is_empty() {
            return false; // the usual turn: hardly anything was published since the last look
        }
        self.slow_below = slow_below;
        let must_wait = self.is_anybody_waited_for(Instant::now());
        if !must_wait {
            self.recheck = None;
            return false;
        }
        loop {
            let recheck = self.recheck.get_or_insert_with(|| Box::pin(sleep(RECHECK)));
            if recheck.as_mut().poll(task).is_pending() {
                return true;
            }
            self.recheck = None;
        }
    }

    fn is_anybody_waited_for(&mut self, now: Instant) -> bool {
        let before = std::mem::take(&mut self.stragglers);
        self.bus.wake_slow_readers(self.slow_below);
        for straggler in self.bus.slow_readers(self.slow_below) {
            let known = before.iter().find(|(other, _)| *other == straggler);
            let since = known.map_or(now, |(_, since)| *since);
            self.stragglers.push((straggler, since));
        }
        let has_patience = |since: Instant| now.duration_since(since) < PATIENCE;
        let (waited_for, given_up): (Vec<_>, Vec<_>) = self
            .stragglers
            .iter()
            .partition(|(_, since)| has_patience(*since));
        for (straggler, _) in given_up {
            self.bus.abandon(straggler);
        }
        !waited_for.is_empty()
    }
}
