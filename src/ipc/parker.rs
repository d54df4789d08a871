//! Sleep and wake of this member's one reading thread.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::fork::generation;
use super::pipe::Pipe;
use super::segment::Segment;
use super::sync::{Ordering, process};

/// Lets this member's reading thread sleep in `epoll_wait` or `poll`, and be woken by publishers.
///
/// ```text
/// loop {
///     drain every record;
///     if parker.park(subscriber.offset()) {   // directly before blocking, after all other work
///         epoll_wait(... parker.fd() ...);
///         parker.unpark();
///     }
///     if parker.fd() is readable { parker.clear() }   // never between park and unpark
/// }
/// ```
///
/// One thread of a member parks; anybody may wake it, other threads of its own process included.
/// A safety tick of its own (a quarter of a second, say) is wise: a publisher that dies between its
/// commit and the ring wakes nobody, until another record comes or somebody reaps.
#[derive(Debug)]
pub struct Parker {
    segment: Arc<Segment>,
    slot: u8,
    pipe: Pipe,
    /// The number of the last sleep.
    sleep: process::AtomicU64,
    /// Whether the shared words say that we sleep.
    parked: process::AtomicBool,
    generation: u32,
}

impl Parker {
    pub(super) fn new(segment: Arc<Segment>, slot: u8, pipe: Pipe) -> Parker {
        let sleep = segment.parts().sleepers().last_sleep(slot);
        Parker {
            segment,
            slot,
            pipe,
            sleep: process::AtomicU64::new(sleep),
            parked: process::AtomicBool::new(false),
            generation: generation(),
        }
    }

    /// Says that this thread is about to block, having read everything before `next_offset`.
    ///
    /// False: there is something to read after all; do not block (it is unparked again already).
    pub fn park(&self, next_offset: u64) -> bool {
        if self.generation != generation() {
            return true; // a forked child's copy: nobody knows it, nobody shall be told
        }
        let parts = self.segment.parts();
        let sleep = self.sleep.load(Ordering::Relaxed).wrapping_add(1);
        self.sleep.store(sleep, Ordering::Relaxed);
        self.parked.store(true, Ordering::Relaxed);
        parts.sleepers().park(self.slot, sleep);
        let may_sleep = parts.log().is_empty_at(next_offset);
        if !may_sleep {
            self.unpark();
        }
        may_sleep
    }

    /// Says that this thread runs again. Cheap if it had not parked.
    pub fn unpark(&self) {
        if self.generation == generation() && self.parked.load(Ordering::Relaxed) {
            self.parked.store(false, Ordering::Relaxed);
            self.segment.parts().sleepers().unpark(self.slot);
        }
    }

    /// Becomes readable when somebody woke us. Non-blocking; for epoll, edge- or level-triggered.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.fd()
    }

    /// Reads the pipe empty. Not between [`Parker::park`] and [`Parker::unpark`]: a ring that was
    /// swallowed there is not repeated.
    pub fn clear(&self) {
        if self.generation == generation() && self.pipe.clear() {
            self.segment.parts().counters(self.slot).count_wakeup();
        }
    }

    /// The same was done by another reader of the pipe.
    pub fn count_wakeup(&self) {
        if self.generation == generation() {
            self.segment.parts().counters(self.slot).count_wakeup();
        }
    }

    /// Makes [`Parker::fd`] readable.
    pub(super) fn send_wakeup(&self) -> bool {
        self.pipe.send_wakeup()
    }
}
