//! The bound that limits how many handlers are begun in one turn of an event loop.
//!
//! Without it, the loop would begin all waiting handlers before it looks at a socket. Each of them would open a
//! connection of its own to a service or a database, where most could take one that another has just returned.
//! (httpx looks through its whole pool for each request: 200 clients of a handler that calls a slow service cost
//! twice as much.) So a turn has few first steps where they have taken long. Where they are short, the bound is far
//! away, and costs nothing.

use std::mem;
use std::time::{Duration, Instant};

/// The time that a turn should take.
const TURN: Duration = Duration::from_millis(4);

/// This many handlers are begun in any case. Fewer do not show how long they take.
const LEAST: usize = 8;

/// The bound of the running turn, derived from the time that the last ones took.
#[derive(Debug)]
pub struct Starts {
    /// The time when the turn began.
    began: Option<Instant>,
    /// The number of handlers that it has begun so far.
    begun: usize,
    most: usize,
}

impl Default for Starts {
    fn default() -> Self {
        Self {
            began: None,
            begun: 0,
            most: usize::MAX,
        }
    }
}

impl Starts {
    /// A turn begins. Since the last turn began, the loop has taken the first steps of the handlers of that turn.
    /// The loop may have slept, too: then this turn begins fewer handlers than it could, once.
    pub fn turn(&mut self, now: Instant) {
        let last = self.began.replace(now);
        let begun = mem::take(&mut self.begun);
        if let Some(last) = last
            && begun >= LEAST
        {
            let took = now.duration_since(last).as_micros().max(1);
            let most = TURN.as_micros() * begun as u128 / took;
            self.most = LEAST.max(most as usize);
        }
    }

    /// May one more handler begin in this turn?
    pub fn take(&mut self) -> bool {
        let may = self.begun < self.most;
        self.begun += usize::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of waiting handlers that are begun in each turn, if the first step of each takes `step`.
    fn turns(starts: &mut Starts, now: &mut Instant, waiting: usize, step: Duration) -> Vec<usize> {
        let (mut left, mut found) = (waiting, Vec::new());
        while left > 0 {
            starts.turn(*now);
            let begun = (0..left).take_while(|_| starts.take()).count();
            found.push(begun);
            left -= begun;
            *now += step * begun as u32;
        }
        found
    }

    #[test]
    fn short_first_steps_are_all_taken_in_one_turn() {
        let (mut starts, mut now) = (Starts::default(), Instant::now());
        for _ in 0..3 {
            let found = turns(&mut starts, &mut now, 64, Duration::from_micros(15));
            assert_eq!(found, [64]);
        }
    }

    #[test]
    fn few_are_begun_in_a_turn_once_first_steps_have_taken_long() {
        let (mut starts, mut now) = (Starts::default(), Instant::now());
        let step = Duration::from_millis(1);
        assert_eq!(turns(&mut starts, &mut now, 100, step), [100]);
        let found = turns(&mut starts, &mut now, 100, step);
        assert_eq!(found, [[8; 12].as_slice(), &[4]].concat());
    }

    #[test]
    fn a_loop_that_has_slept_is_back_at_its_pace_in_the_next_turn() {
        let (mut starts, mut now) = (Starts::default(), Instant::now());
        let step = Duration::from_micros(15);
        assert_eq!(turns(&mut starts, &mut now, 64, step), [64]);
        now += Duration::from_secs(1);
        assert_eq!(turns(&mut starts, &mut now, 64, step), [8, 56]);
    }

    #[test]
    fn a_turn_with_few_handlers_says_nothing() {
        let (mut starts, mut now) = (Starts::default(), Instant::now());
        assert_eq!(turns(&mut starts, &mut now, 7, Duration::from_secs(1)), [7]);
        assert_eq!(turns(&mut starts, &mut now, 64, Duration::ZERO), [64]);
    }
}
