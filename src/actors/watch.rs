//! How the hub's thread learns that the bus has something: woken through a pipe while it sleeps,
//! by a look at the log before it goes to sleep, and not at all while it is busy.
//!
//! [`Sleeper`] is hung into the runtime: it parks the bus's reader only when the thread really is
//! about to block. [`Watch`] is the hub's end.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{self, Poll};

use atomic_waker::AtomicWaker;
use tokio::io::unix::AsyncFd;

use crate::ipc::Bus;

/// What the runtime calls around every sleep of its thread.
pub struct Sleeper {
    bus: Bus,
    /// Offset of the record that the hub reads next.
    next: AtomicU64,
    /// The hub has read once: before that it has nothing to be woken for.
    begun: AtomicBool,
    hub: AtomicWaker,
}

impl fmt::Debug for Sleeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sleeper").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Sleeper {
    /// For the reader of `bus` on one thread.
    pub fn new(bus: Bus) -> Arc<Self> {
        let (next, begun) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { bus, next, begun, hub: AtomicWaker::new() })
    }

    /// The thread is about to block. If the bus has something, the hub's task is woken instead,
    /// and the runtime does not block.
    pub fn before_park(&self) {
        if self.begun.load(Relaxed) && !self.bus.parker().park(self.next.load(Relaxed)) {
            self.hub.wake();
        }
    }

    /// The thread runs again.
    pub fn after_unpark(&self) {
        self.bus.parker().unpark();
    }
}

/// The hub's end: registered with the runtime's epoll.
pub struct Watch {
    pipe: AsyncFd<Pipe>,
    sleeper: Arc<Sleeper>,
}

/// The reading end of the bus's wake-up pipe.
struct Pipe(Bus);

impl AsRawFd for Pipe {
    fn as_raw_fd(&self) -> RawFd {
        self.0.parker().fd().as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Watch").field("sleeper", &self.sleeper).finish_non_exhaustive()
    }
}

impl Watch {
    /// Watches the bus's pipe. Needs a running runtime on this thread.
    pub fn new(sleeper: Arc<Sleeper>) -> io::Result<Self> {
        let pipe = AsyncFd::new(Pipe(sleeper.bus.clone()))?;
        Ok(Self { pipe, sleeper })
    }

    /// Takes note of wake-ups; the hub's task is woken by the next one.
    pub fn poll_woken(&self, task: &mut task::Context<'_>) {
        self.sleeper.hub.register(task.waker());
        // The pipe's end lives as long as the bus; an error could only be a spurious readiness.
        while let Poll::Ready(Ok(mut ready)) = self.pipe.poll_read_ready(task) {
            self.sleeper.bus.parker().clear();
            ready.clear_ready();
        }
    }

    /// The hub reads on at `offset`.
    pub fn reads_on_at(&self, offset: u64) {
        self.sleeper.next.store(offset, Relaxed);
        self.sleeper.begun.store(true, Relaxed);
    }
}
