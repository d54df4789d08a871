//! The timer wheel that has one tick for all sessions of a worker instead of a timer for each.
//!
//! Entries are only hints. When a session is due, the caller checks its real deadline. If the session gave a sign
//! of life in the meantime, the caller inserts it again, so that traffic never touches the wheel.

use std::mem;
use std::time::Duration;

/// Time between two ticks: a deadline may be noticed this much later.
pub const TICK: Duration = Duration::from_millis(100);

/// Slots of the wheel; a deadline beyond one turn of it is looked at once a turn.
const SLOTS: usize = 1024;

/// Keys ordered by the tick at which they must be looked at.
#[derive(Debug)]
pub struct Wheel<K> {
    slots: Vec<Vec<K>>,
    /// Ticks since the start.
    now: u64,
}

impl<K> Default for Wheel<K> {
    fn default() -> Self {
        Self {
            slots: std::iter::repeat_with(Vec::new).take(SLOTS).collect(),
            now: 0,
        }
    }
}

impl<K> Wheel<K> {
    /// `key` comes back from [`Wheel::advance`] after `delay`, or after one turn of the wheel if that is sooner.
    /// Never at once.
    pub fn insert(&mut self, key: K, delay: Duration) {
        let ticks = delay
            .as_nanos()
            .div_ceil(TICK.as_nanos())
            .clamp(1, SLOTS as u128 - 1) as usize;
        let slot = (self.now as usize + ticks) % SLOTS;
        self.slots[slot].push(key);
    }

    /// One tick has passed: moves the keys that are due into `due`, which should be empty.
    pub fn advance(&mut self, due: &mut Vec<K>) {
        self.now += 1;
        // The slot's memory is taken too. Otherwise a crowd that came and went would leave its size in one slot
        // after the other.
        due.append(&mut mem::take(&mut self.slots[self.now as usize % SLOTS]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks_until_due(delay: Duration) -> u64 {
        let mut wheel = Wheel::default();
        wheel.insert("key", delay);
        let mut due = Vec::new();
        for tick in 1.. {
            wheel.advance(&mut due);
            if !due.is_empty() {
                return tick;
            }
        }
        unreachable!("the loop ends only by returning")
    }

    #[test]
    fn a_key_is_due_after_its_delay_rounded_up() {
        assert_eq!(ticks_until_due(Duration::ZERO), 1);
        assert_eq!(ticks_until_due(TICK), 1);
        assert_eq!(ticks_until_due(TICK + Duration::from_millis(1)), 2);
        assert_eq!(ticks_until_due(TICK * 300), 300);
    }

    #[test]
    fn a_far_deadline_is_looked_at_once_a_turn() {
        assert_eq!(ticks_until_due(TICK * 1_000_000), SLOTS as u64 - 1);
    }

    #[test]
    fn a_crowd_leaves_no_memory_behind() {
        let mut wheel = Wheel::default();
        for ticks in 1..SLOTS as u32 {
            for key in 0..1000 {
                wheel.insert(key, TICK * ticks);
            }
        }
        for _ in 0..SLOTS {
            wheel.advance(&mut Vec::new());
        }
        let kept: usize = wheel.slots.iter().map(Vec::capacity).sum();
        assert_eq!(kept, 0, "room for so many keys");
    }
}
