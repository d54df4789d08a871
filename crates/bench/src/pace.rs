//! The pace that decides when the next message must be sent.
//!
//! In the closed loop a message is sent whenever there is room. In the open loop messages are sent
//! at a rate, however fast the server answers. A message has the time at which it was due, and not
//! the time at which there was room for it. Otherwise a server that stalls would make the client
//! send less. The wait of the messages that were not sent would be missing from the latencies
//! ("coordinated omission", G. Tene).

use std::time::Duration;

use super::pool::TICK;

/// The times at which messages are due, by number.
#[derive(Copy, Clone, Debug)]
pub(super) struct Pace {
    /// Messages per second; None in the closed loop.
    rate: Option<f64>,
    end_ns: u64,
}

impl Pace {
    pub(super) fn new(rate: Option<f64>, end: Duration) -> Self {
        Self {
            rate,
            end_ns: end.as_nanos() as u64,
        }
    }

    /// Sets the time from which nothing is due.
    pub(super) fn end_at(&mut self, end: Duration) {
        self.end_ns = end.as_nanos() as u64;
    }

    pub(super) fn is_open(self) -> bool {
        self.rate.is_some()
    }

    /// The time from which message `number` counts, if it may be sent now.
    pub(super) fn due(self, number: u64, now_ns: u64) -> Option<u64> {
        match self.rate {
            None => (now_ns < self.end_ns).then_some(now_ns),
            Some(rate) => {
                let due_ns = due_ns(number, rate);
                (due_ns <= now_ns && due_ns < self.end_ns).then_some(due_ns)
            }
        }
    }

    /// The longest time to wait for events before message `number` may be sent.
    pub(super) fn wait(self, number: u64, now_ns: u64) -> Duration {
        let Some(rate) = self.rate else { return TICK };
        let due_ns = due_ns(number, rate);
        if due_ns >= self.end_ns || due_ns <= now_ns {
            // The measurement is over, or there was no room: a message must arrive first.
            return TICK;
        }
        TICK.min(Duration::from_nanos(due_ns - now_ns))
    }

    /// The number of messages that are due before the end, in the open loop.
    pub(super) fn in_all(self) -> Option<u64> {
        let rate = self.rate?;
        let mut count = (self.end_ns as f64 / 1e9 * rate) as u64;
        while due_ns(count, rate) < self.end_ns {
            count += 1;
        }
        Some(count)
    }
}

fn due_ns(number: u64, rate: f64) -> u64 {
    (number as f64 / rate * 1e9) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_due_keeps_its_time_however_late_it_is_sent() {
        let pace = Pace::new(Some(100.0), Duration::from_secs(1));
        assert_eq!(pace.due(3, 29_999_999), None);
        assert_eq!(pace.due(3, 30_000_000), Some(30_000_000));
        assert_eq!(pace.due(3, 900_000_000), Some(30_000_000));
    }

    #[test]
    fn what_is_due_before_the_end_is_sent_even_after_it() {
        let pace = Pace::new(Some(100.0), Duration::from_secs(1));
        assert_eq!(pace.in_all(), Some(100));
        assert_eq!(pace.due(99, 5_000_000_000), Some(990_000_000));
        assert_eq!(pace.due(100, 5_000_000_000), None);
    }

    #[test]
    fn the_closed_loop_sends_now_or_not_at_all() {
        let pace = Pace::new(None, Duration::from_secs(1));
        assert_eq!(pace.due(7, 5), Some(5));
        assert_eq!(pace.due(7, 1_000_000_000), None);
        assert_eq!(pace.in_all(), None);
    }
}
