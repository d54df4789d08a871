//! The lingering that makes the event loop hold Python's lock for a moment when it has nothing to do.
//!
//! Beside a thread that computes, the loop waits for the lock for 5 ms each time (`sys.getswitchinterval()`). It
//! releases the lock as soon as it has nothing to do. Clients that got an answer send their next request in a
//! moment, which then waits as long again. So a loop that has waited for long holds the lock for a part of that
//! time, and handles the requests that come meanwhile. The computing thread loses no more than that part.

use std::time::{Duration, Instant};

/// After a wait of this length, a thread that computes must have held the lock.
const LONG: Duration = Duration::from_millis(1);

/// The part of the time that the loop has waited. A smaller part is too short where other programs need the
/// processor, too.
const PART: u32 = 5;

/// The loop never lingers longer: each thread may hold the lock for this long while others wait for it.
const MOST: Duration = Duration::from_millis(5);

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Lingering {
    until: Option<Instant>,
}

impl Lingering {
    /// The loop has been woken at `woken`, and has the lock now. `is_contended`: do other threads wait for it?
    /// True: the loop must linger when its work is done.
    pub fn begin(
        &mut self,
        woken: Option<Instant>,
        now: Instant,
        is_contended: impl FnOnce() -> bool,
    ) -> bool {
        let waited = woken.map_or(Duration::ZERO, |it| now.saturating_duration_since(it));
        if waited >= LONG && is_contended() {
            self.until = Some(now + (waited / PART).min(MOST));
        }
        self.until.is_some()
    }

    /// The time that is left. None: the lock must be released.
    pub fn left(&mut self, now: Instant) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(now);
        if left.is_zero() {
            self.end();
            return None;
        }
        Some(left)
    }

    /// No request has come in this time.
    pub fn end(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_loop_that_waited_long_keeps_the_lock_for_a_part_of_that_time() {
        let start = Instant::now();
        let now = start + 5 * MS;
        let mut lingering = Lingering::default();
        assert!(lingering.begin(Some(start), now, || true));
        assert_eq!(lingering.left(now), Some(MS));
        // It was woken meanwhile, and has done that: the end stays where it is.
        assert!(lingering.begin(Some(now), now + MS / 4, || true));
        assert_eq!(lingering.left(now + MS / 4), Some(3 * MS / 4));
        assert_eq!(lingering.left(now + MS), None);
        assert!(!lingering.begin(Some(now + MS), now + MS, || true));
    }

    #[test]
    fn it_gives_the_lock_away_as_soon_as_nothing_has_come() {
        let start = Instant::now();
        let mut lingering = Lingering::default();
        assert!(lingering.begin(Some(start), start + 5 * MS, || true));
        lingering.end();
        assert_eq!(lingering.left(start + 5 * MS), None);
    }

    #[test]
    fn it_never_keeps_the_lock_for_long() {
        let start = Instant::now();
        let mut lingering = Lingering::default();
        assert!(lingering.begin(Some(start), start + 1000 * MS, || true));
        assert_eq!(lingering.left(start + 1000 * MS), Some(MOST));
    }

    #[test]
    fn who_has_not_waited_or_is_alone_gives_the_lock_away() {
        let start = Instant::now();
        let mut lingering = Lingering::default();
        let not_asked = || unreachable!("who has not waited need not ask");
        assert!(!lingering.begin(None, start, not_asked));
        assert!(!lingering.begin(Some(start), start + MS / 2, not_asked));
        assert!(!lingering.begin(Some(start), start + 5 * MS, || false));
        assert_eq!(lingering.left(start + 5 * MS), None);
    }
}
