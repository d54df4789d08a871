//! When to look for what another thread posts quietly, because it means to hand all over at the end of its
//! drain: a drain that lasts must not hold it back.
//!
//! To be woken by the first post would cost more than it brings: the posts of a short drain are then
//! taken in two halves, and written in two. A look now and then costs nothing.

use std::time::Duration;

/// Between two looks as a rule: so long may pass until a drain that lasts is noticed.
const SELDOM: Duration = Duration::from_millis(3);

/// Between two looks at a drain that lasts.
const OFTEN: Duration = Duration::from_millis(1);

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub struct SecondLook {
    /// The drain that was under way at the last look.
    drain: Option<u64>,
}

impl SecondLook {
    /// How long to wait for the next look.
    pub fn delay(&self) -> Duration {
        if self.drain.is_some() { OFTEN } else { SELDOM }
    }

    /// A look, at which the drain of this number is under way. True: take what it has posted so far.
    pub fn is_due(&mut self, drain: Option<u64>) -> bool {
        let has_ended = self.drain.is_some() && self.drain != drain;
        // Drains that are over within two looks hand over by themselves.
        self.drain = if has_ended { None } else { drain };
        self.drain.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds at which posts are taken early, of the first 100. `drains`: the beginning and the end
    /// of each, in milliseconds.
    fn taken_at(drains: &[(f64, f64)]) -> Vec<u128> {
        let (mut look, mut now, mut taken) = (SecondLook::default(), Duration::ZERO, Vec::new());
        while now < Duration::from_millis(100) {
            now += look.delay();
            let at = now.as_secs_f64() * 1000.0;
            let drain = drains
                .iter()
                .position(|(begin, end)| (*begin..*end).contains(&at));
            if look.is_due(drain.map(|at| at as u64)) {
                taken.push(now.as_millis());
            }
        }
        taken
    }

    #[test]
    fn what_a_drain_posts_that_lasts_is_taken_every_millisecond() {
        assert_eq!(taken_at(&[(0.0, 8.5)]), [3, 4, 5, 6, 7, 8]);
        assert_eq!(taken_at(&[(3.5, 9.5)]), [6, 7, 8, 9]);
    }

    #[test]
    fn drains_that_are_short_are_disturbed_once_in_four_milliseconds_at_most() {
        let short: Vec<_> = (0..1000)
            .map(|at| (f64::from(at) / 10.0, f64::from(at + 1) / 10.0))
            .collect();
        let taken = taken_at(&short);
        assert!((20..=25).contains(&taken.len()), "{taken:?}");
        assert!(
            taken.windows(2).all(|pair| pair[1] - pair[0] >= 4),
            "{taken:?}"
        );
    }

    #[test]
    fn nothing_is_taken_while_no_drain_is_under_way() {
        assert_eq!(taken_at(&[]), [0; 0]);
        assert_eq!(taken_at(&[(0.5, 2.5), (3.5, 5.5)]), [0; 0]);
    }
}
