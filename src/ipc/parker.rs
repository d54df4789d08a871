//! The parker: sleep and wake-up of this member's one reading thread.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::counters::Counter;
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
/// One thread of a member parks. Any thread may wake it, other threads of its own process included. The thread should
/// wake up by itself from time to time (every quarter of a second, say): a publisher that dies between its commit and
/// the wake-up wakes no member, until another record comes or a member reaps the dead one.
#[derive(Debug)]
pub struct Parker {
    segment: Arc<Segment>,
    slot: u8,
    pipe: Pipe,
    /// The number of the last sleep.
    sleep: process::AtomicU64,
    /// Whether the shared words say that this member sleeps.
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

    /// Marks this thread as about to block. It has read everything before `next_offset`.
    ///
    /// False: there is something to read, so do not block. The thread is not parked then.
    pub fn park(&self, next_offset: u64) -> bool {
        if self.generation != generation() {
            return true; // a copy in a forked child: it must not change the shared words
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

    /// Marks this thread as running again. Cheap if it had not parked.
    pub fn unpark(&self) {
        if self.generation == generation() && self.parked.load(Ordering::Relaxed) {
            self.parked.store(false, Ordering::Relaxed);
            self.segment.parts().sleepers().unpark(self.slot);
        }
    }

    /// The descriptor that becomes readable with a wake-up. Non-blocking, for epoll, edge- or level-triggered.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.fd()
    }

    /// Reads the pipe empty. Not between [`Parker::park`] and [`Parker::unpark`]: a wake-up that is lost there is not
    /// repeated.
    pub fn clear(&self) {
        if self.generation == generation() && self.pipe.clear() {
            let counters = self.segment.parts().counters(self.slot);
            counters.add(Counter::WakeupsReceived, 1);
        }
    }

    /// Counts a wake-up, for a caller that has read the pipe empty by itself.
    pub fn count_wakeup(&self) {
        if self.generation == generation() {
            let counters = self.segment.parts().counters(self.slot);
            counters.add(Counter::WakeupsReceived, 1);
        }
    }

    /// Whether there is a record to read at `offset`.
    pub(super) fn has_record_at(&self, offset: u64) -> bool {
        !self.segment.parts().log().is_empty_at(offset)
    }

    /// Makes [`Parker::fd`] readable.
    pub(super) fn send_wakeup(&self) -> bool {
        self.pipe.send_wakeup()
    }
}
