//! When each session is closed while the worker ends.
//!
//! A crowd that is told to go at one instant comes back at one instant, to workers that have just
//! started. So the sessions go over many ticks, and chance decides who goes at which: neither
//! clients that came together nor those of several workers that end together go in step.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use crate::actors::wheel::TICK;

/// Up to so many sessions go at once: pacing is for crowds, and who stops a server with a handful of
/// clients does not want to wait.
const HANDFUL: usize = 64;

/// The end of a worker's sessions.
#[derive(Debug)]
pub(super) struct Parting {
    /// The last ones go now.
    until: Instant,
    chance: Chance,
}

impl Parting {
    /// Over this time from `now` on, if there are more than a handful of them.
    pub(super) fn new(now: Instant, time: Duration, sessions: usize) -> Self {
        let time = if sessions > HANDFUL {
            time
        } else {
            Duration::ZERO
        };
        Self {
            until: now + time,
            chance: Chance(RandomState::new().build_hasher().finish()),
        }
    }

    /// Those of the `open` sessions that are to be closed in the tick that is `now`.
    ///
    /// Each goes with the chance of one in the ticks that are left: so every tick is as likely for
    /// it as any other, and the last one is for all who are still there, whenever they came.
    pub(super) fn due<K>(&mut self, now: Instant, open: Vec<K>) -> impl Iterator<Item = K> {
        let left = self.until.saturating_duration_since(now);
        let ticks = (left.as_nanos() / TICK.as_nanos()) as u64 + 1;
        open.into_iter()
            .filter(move |_| self.chance.below(ticks) == 0)
    }
}

/// Numbers without an order that anybody sees: `SplitMix64`, by Steele, Lea and Flood (2014).
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    /// One of 0 to `end` - 1, each as likely.
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

    /// Who goes at each tick.
    fn played(sessions: usize, ticks: u32, seed: u64) -> Vec<Vec<usize>> {
        let start = Instant::now();
        let mut parting = Parting::new(start, TICK * (ticks - 1), sessions);
        parting.chance = Chance(seed);
        let mut open: Vec<usize> = (0..sessions).collect();
        let mut gone = Vec::new();
        for tick in 0..ticks {
            let now: Vec<usize> = parting.due(start + TICK * tick, open.clone()).collect();
            open.retain(|session| !now.contains(session));
            gone.push(now);
        }
        assert_eq!(open, [] as [usize; 0], "the last tick is for all");
        gone
    }

    #[test]
    fn a_crowd_goes_over_all_ticks() {
        for seed in 0..5 {
            let gone = played(5000, 50, seed);
            // 100 each on average; the standard deviation is 10.
            for (tick, now) in gone.iter().enumerate() {
                assert!((50..=150).contains(&now.len()), "{} at {tick}", now.len());
            }
        }
    }

    #[test]
    fn neighbours_do_not_go_in_step_and_workers_do_not_either() {
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
    fn a_handful_goes_at_once_and_nobody_is_forgotten_without_a_grace_time() {
        assert_eq!(played(HANDFUL, 50, 1)[0].len(), HANDFUL);
        assert_eq!(played(5000, 1, 1)[0].len(), 5000);
    }

    #[test]
    fn two_partings_have_different_chances() {
        let now = Instant::now();
        let mut first = Parting::new(now, TICK, 100).chance;
        let mut second = Parting::new(now, TICK, 100).chance;
        assert_ne!(first.below(u64::MAX), second.below(u64::MAX));
    }
}
