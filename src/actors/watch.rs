//! The watch that wakes the hub's thread when the bus has records. While the thread sleeps, a pipe wakes it. Before
//! it goes to sleep, it looks at the log. While it is busy, nothing wakes it.
//!
//! The runtime calls [`Sleeper`]: it parks the bus's reader only when the thread really is about to block.
//! [`Watch`] is the hub's end.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{self, Poll};

use atomic_waker::AtomicWaker;
use tokio::net::unix::pipe;

use super::forks::Withheld;
use crate::ipc::Bus;

/// The functions that the runtime calls around every sleep of its thread.
pub struct Sleeper {
    bus: Bus,
    /// Offset of the record that the hub reads next.
    next: AtomicU64,
    /// The hub has read once: before that nothing needs to wake it.
    begun: AtomicBool,
    hub: AtomicWaker,
}

impl fmt::Debug for Sleeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Sleeper")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Sleeper {
    /// The sleeper for the reader of `bus` on one thread.
    pub fn new(bus: Bus) -> Arc<Self> {
        let (next, begun) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self {
            bus,
            next,
            begun,
            hub: AtomicWaker::new(),
        })
    }

    /// The thread is about to block. If the bus has records, the hub's task is woken instead, and the runtime does
    /// not block.
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
    /// The reading end of the bus's wake-up pipe.
    pipe: pipe::Receiver,
    /// The bus does not own this copy of the pipe. It has withheld its own copies from forked children by itself.
    _withheld: Withheld,
    sleeper: Arc<Sleeper>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Watch")
            .field("sleeper", &self.sleeper)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// Watches the bus's pipe. Needs a running runtime on this thread.
    pub fn new(sleeper: Arc<Sleeper>) -> io::Result<Self> {
        let pipe = sleeper.bus.parker().fd().try_clone_to_owned()?;
        Ok(Self {
            _withheld: Withheld::new([pipe.as_raw_fd()])?,
            pipe: pipe::Receiver::from_owned_fd(pipe)?,
            sleeper,
        })
    }

    /// Consumes the wake-ups; the next one wakes the hub's task.
    pub fn poll_woken(&self, task: &mut task::Context<'_>) {
        self.sleeper.hub.register(task.waker());
        // The bytes in the pipe have no meaning: only their presence counts.
        let mut wakes = [0; 64];
        let mut is_woken = false;
        while let Poll::Ready(Ok(())) = self.pipe.poll_read_ready(task) {
            while matches!(self.pipe.try_read(&mut wakes), Ok(1..)) {
                is_woken = true;
            }
        }
        if is_woken {
            self.sleeper.bus.parker().count_wakeup();
        }
    }

    /// The hub reads on at `offset`.
    pub fn reads_on_at(&self, offset: u64) {
        self.sleeper.next.store(offset, Relaxed);
        self.sleeper.begun.store(true, Relaxed);
    }
}
