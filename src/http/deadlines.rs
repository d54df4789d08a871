//! The deadlines of a worker's connections: one number for each, and one tick for all of them.
//!
//! A timer per connection would take more memory than the rest of its state, and an entry in a timer wheel would
//! cost time per request. Here the connection sets its deadline by writing a number. A tick reads all of them, and
//! wakes the connections whose deadline has passed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::actors::wheel::TICK;

/// No deadline.
const NEVER: u32 = u32::MAX;

/// The deadlines of all connections of a worker.
#[derive(Debug)]
pub(super) struct Deadlines {
    slots: RefCell<Slab<DeadlineSlot>>,
    began: Instant,
    /// Ticks between `began` and the latest call of [`Deadlines::tick`].
    now: Cell<u32>,
}

#[derive(Debug)]
struct DeadlineSlot {
    /// The tick of the deadline.
    at: u32,
    /// The task of the connection.
    waker: Waker,
}

/// The deadline of one connection.
#[derive(Debug)]
pub(super) struct Deadline {
    deadlines: Rc<Deadlines>,
    slot: usize,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            slots: RefCell::default(),
            began: Instant::now(),
            now: Cell::new(0),
        }
    }
}

impl Deadlines {
    /// A deadline, not set yet, for the connection that runs in this task.
    pub(super) fn add(self: &Rc<Self>, waker: Waker) -> Deadline {
        let slot = self
            .slots
            .borrow_mut()
            .insert(DeadlineSlot { at: NEVER, waker });
        Deadline {
            deadlines: Rc::clone(self),
            slot,
        }
    }

    /// Wakes every connection whose deadline has passed. The caller calls it once a tick.
    pub(super) fn tick(&self, now: Instant) {
        let ticks = now.duration_since(self.began).as_millis() / TICK.as_millis();
        let now = u32::try_from(ticks).unwrap_or(NEVER - 1).min(NEVER - 1);
        self.now.set(now);
        for (_, slot) in self.slots.borrow().iter() {
            if slot.at <= now {
                slot.waker.wake_by_ref();
            }
        }
    }

    /// Wakes every connection, because another condition has changed.
    pub(super) fn wake_all(&self) {
        for (_, slot) in self.slots.borrow().iter() {
            slot.waker.wake_by_ref();
        }
    }
}

impl Deadline {
    /// Sets the deadline. It passes up to two ticks late.
    pub(super) fn set(&self, after: Duration) {
        let ticks = after.as_nanos().div_ceil(TICK.as_nanos()) + 1;
        let ticks = u32::try_from(ticks).unwrap_or(NEVER);
        let now = self.deadlines.now.get();
        self.write(now.saturating_add(ticks).min(NEVER - 1));
    }

    /// Removes the deadline.
    pub(super) fn clear(&self) {
        self.write(NEVER);
    }

    /// Whether the deadline has passed.
    pub(super) fn is_over(&self) -> bool {
        let slots = self.deadlines.slots.borrow();
        slots[self.slot].at <= self.deadlines.now.get()
    }

    fn write(&self, at: u32) {
        self.deadlines.slots.borrow_mut()[self.slot].at = at;
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let slots = &mut *self.deadlines.slots.borrow_mut();
        slots.remove(self.slot);
        // Memory for many connections is freed when the last one has gone.
        if slots.is_empty() {
            *slots = Slab::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_connection_is_woken_at_its_deadline_and_not_before() {
        let (deadlines, count) = (Rc::<Deadlines>::default(), Arc::<Count>::default());
        let deadline = deadlines.add(Arc::clone(&count).into());
        let mut now = Instant::now();
        let mut pass = |ticks: u32| {
            now += TICK * ticks;
            deadlines.tick(now);
            count.0.load(SeqCst)
        };
        assert_eq!(pass(1000), 0);
        deadline.set(TICK * 3);
        assert_eq!(pass(3), 0);
        assert!(!deadline.is_over());
        assert_eq!(pass(1), 1);
        assert!(deadline.is_over());
        deadline.set(Duration::MAX);
        assert_eq!(pass(1000), 1);
        deadline.clear();
        assert_eq!(pass(1000), 1);
        deadlines.wake_all();
        assert_eq!(count.0.load(SeqCst), 2);
        drop(deadline);
        assert_eq!(deadlines.slots.borrow().capacity(), 0);
    }
}
