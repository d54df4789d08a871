//! The schedule that closes the sessions of a worker that shuts down.
//!
//! Clients that are closed at one instant reconnect at one instant, to workers that have just started. So the
//! closes are spread over many ticks, at random. Clients that connected together are not closed together, and
//! several workers that shut down together do not close in step.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use crate::actors::wheel::TICK;

/// Up to this number of sessions are closed at once: a server with few clients stops without a delay.
const HANDFUL: usize = 64;

/// Spreads the closes of a worker's sessions over time.
#[derive(Debug)]
pub(super) struct StaggeredClose {
    /// The time at which the last sessions are closed.
    until: Instant,
    random: Random,
}

impl StaggeredClose {
    /// Spreads the closes over this time from `now` on, if there are more than a handful of sessions.
    pub(super) fn new(now: Instant, time: Duration, sessions: usize) -> Self {
        let time = if sessions > HANDFUL {
            time
        } else {
            Duration::ZERO
        };
        Self {
            until: now + time,
            random: Random(RandomState::new().build_hasher().finish()),
        }
    }

    /// The sessions among `open` that must be closed in the tick that is `now`.
    ///
    /// The probability is one in the number of ticks that are left. So every tick is equally likely for a
    /// session, and the last tick closes all that are still open, whenever they connected.
    pub(super) fn due<K>(&mut self, now: Instant, open: Vec<K>) -> impl Iterator<Item = K> {
        let left = self.until.saturating_duration_since(now);
        let ticks = (left.as_nanos() / TICK.as_nanos()) as u64 + 1;
        open.into_iter()
            .filter(move |_| self.random.below(ticks) == 0)
    }
}

/// Pseudorandom numbers: `SplitMix64`, by Steele, Lea and Flood (2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// One of 0 to `end` - 1, each equally likely.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (bits ^ (bits >> 31)) % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sessions that are closed at each tick.
    fn played(sessions: usize, ticks: u32, seed: u64) -> Vec<Vec<usize>> {
        let start = Instant::now();
        let mut schedule = StaggeredClose::new(start, TICK * (ticks - 1), sessions);
        schedule.random = Random(seed);
        let mut open: Vec<usize> = (0..sessions).collect();
        let mut gone = Vec::new();
        for tick in 0..ticks {
            let now: Vec<usize> = schedule.due(start + TICK * tick, open.clone()).collect();
            open.retain(|session| !now.contains(session));
            gone.push(now);
        }
        assert_eq!(open, [] as [usize; 0], "the last tick is for all");
        gone
    }

    #[test]
    fn a_crowd_is_closed_over_all_ticks() {
        for seed in 0..5 {
            let gone = played(5000, 50, seed);
            // 100 each on average; the standard deviation is 10.
            for (tick, now) in gone.iter().enumerate() {
                assert!((50..=150).contains(&now.len()), "{} at {tick}", now.len());
            }
        }
    }

    #[test]
    fn neighbours_and_workers_are_not_closed_in_step() {
        let tick_of = |seed| {
            let mut ticks = vec![0; 1000];
            for (tick, now) in played(1000, 50, seed).iter().enumerate() {
                for &session in now {
                    ticks[session] = tick;
                }
            }
            ticks
        };
        let (one, other) = (tick_of(1), tick_of(2));
        let same_as_neighbour = one.windows(2).filter(|two| two[0] == two[1]).count();
        let same_in_both = one.iter().zip(&other).filter(|(a, b)| a == b).count();
        // One in 50 by chance.
        assert!(same_as_neighbour < 60, "{same_as_neighbour} of 1000");
        assert!(same_in_both < 60, "{same_in_both} of 1000");
        let later = one.windows(2).filter(|two| two[0] < two[1]).count();
        assert!(
            (400..=600).contains(&later),
            "{later} of 1000 go after their neighbour"
        );
    }

    #[test]
    fn a_handful_is_closed_at_once_and_all_are_closed_without_a_grace_time() {
        assert_eq!(played(HANDFUL, 50, 1)[0].len(), HANDFUL);
        assert_eq!(played(5000, 1, 1)[0].len(), 5000);
    }

    #[test]
    fn two_schedules_have_different_random_numbers() {
        let now = Instant::now();
        let mut first = StaggeredClose::new(now, TICK, 100).random;
        let mut second = StaggeredClose::new(now, TICK, 100).random;
        assert_ne!(first.below(u64::MAX), second.below(u64::MAX));
    }
}
