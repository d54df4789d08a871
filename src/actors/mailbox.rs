//! The mailbox that connects two threads, and is drained in batches.
//!
//! The producer writes into the batch under a short lock; the drainer swaps the whole batch out. The drainer is
//! signalled only when it sleeps, so a burst costs one wake-up and a busy drainer none. The mailbox does not know
//! the contents of a batch, and accepts every item. Its bound is checked *before* work is taken in
//! ([`Mailbox::has_capacity`]), because some events (a disconnect) must never be refused.

use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

/// The contents of a mailbox: many items in one container that retains its memory when it is emptied.
pub trait Batch: Default {
    /// Number of items inside.
    fn len(&self) -> usize;
    /// Drops the items. Retains the memory unless a burst made it unreasonably large.
    fn clear(&mut self);
    /// Is there anything inside?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Largest number of items whose memory a [`Vec`] batch retains between bursts.
const KEPT_ITEMS: usize = 4096;

impl<T> Batch for Vec<T> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn clear(&mut self) {
        Vec::clear(self);
        self.shrink_to(KEPT_ITEMS);
    }
}

/// The way in which a sleeping drainer is woken.
pub trait Signal {
    /// Wakes the drainer. Called only when it sleeps.
    fn raise(&self);
}

/// Wakes a thread that watches a file descriptor: Python's event loop.
#[derive(Debug)]
pub struct FdSignal {
    fd: EventFd,
    made: Instant,
    /// The time from `made` until it was raised, in nanoseconds; 0 if it is not raised. It can be read without a
    /// system call.
    raised: AtomicU64,
}

impl FdSignal {
    /// Creates the eventfd. Fails when descriptors have run out.
    pub fn new() -> std::io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            fd: EventFd::from_value_and_flags(0, flags)?,
            made: Instant::now(),
            raised: AtomicU64::new(0),
        })
    }

    /// Drops the wake-ups that were raised, and returns the time of the last one. Call it before draining.
    pub fn clear(&self) -> Option<Instant> {
        let raised = self.raised.swap(0, Relaxed);
        // EAGAIN means that nothing was raised, which is fine too.
        let _ = self.fd.read();
        (raised > 0).then(|| self.made + Duration::from_nanos(raised))
    }

    /// Has it been raised, and not been cleared since? It may be out of date by a moment.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Relaxed) > 0
    }

    /// Waits until it is raised, for this time at most, or until a signal comes. Was it?
    pub fn wait(&self, most: Duration) -> bool {
        let fds = &mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        ppoll(fds, Some(TimeSpec::from_duration(most)), None) == Ok(1)
    }
}

impl AsFd for FdSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Signal for FdSignal {
    fn raise(&self) {
        let raised = self.made.elapsed().as_nanos() as u64;
        self.raised.store(raised.max(1), Relaxed);
        // The counter can only overflow after 2^64 - 2 unread wake-ups.
        let _ = self.fd.write(1);
    }
}

/// Wakes a task of the I/O thread's runtime.
#[derive(Debug, Default)]
pub struct TaskSignal(AtomicWaker);

impl TaskSignal {
    /// The task that drains from now on. Register before [`Mailbox::take`], or a wake is lost.
    pub fn register(&self, waker: &Waker) {
        self.0.register(waker);
    }
}

impl Signal for TaskSignal {
    fn raise(&self) {
        self.0.wake();
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Mailbox<B, S> {
    inside: Mutex<Inside<B>>,
    /// The number of items inside, which can be read without the lock.
    len: AtomicUsize,
    capacity: usize,
    signal: S,
}

#[derive(Debug)]
struct Inside<B> {
    batch: B,
    /// The drainer has been signalled, or is draining: it will look again by itself.
    awake: bool,
}

impl<B: Batch, S: Signal> Mailbox<B, S> {
    /// An empty mailbox that reports itself full at `capacity` items.
    pub fn new(capacity: usize, signal: S) -> Self {
        let inside = Mutex::new(Inside {
            batch: B::default(),
            awake: false,
        });
        Self {
            inside,
            len: AtomicUsize::new(0),
            capacity,
            signal,
        }
    }

    /// The signal that wakes the drainer.
    pub fn signal(&self) -> &S {
        &self.signal
    }

    /// May more work be taken in? Check it before reading work from a socket.
    pub fn has_capacity(&self) -> bool {
        self.len.load(SeqCst) < self.capacity
    }

    /// Is nothing inside? It may be out of date by a moment.
    pub fn is_empty(&self) -> bool {
        self.len.load(Relaxed) == 0
    }

    /// Lets `put` add to the batch, and wakes the drainer if it sleeps.
    pub fn post<R>(&self, put: impl FnOnce(&mut B) -> R) -> R {
        let mut inside = self.lock();
        let result = put(&mut inside.batch);
        self.len.store(inside.batch.len(), Relaxed);
        let sleeps = !mem::replace(&mut inside.awake, true);
        drop(inside);
        if sleeps {
            self.signal.raise();
        }
        result
    }

    /// Like [`Mailbox::post`], without waking: the caller must call [`Mailbox::wake`] later.
    pub fn post_quietly<R>(&self, put: impl FnOnce(&mut B) -> R) -> R {
        let mut inside = self.lock();
        let result = put(&mut inside.batch);
        self.len.store(inside.batch.len(), Relaxed);
        result
    }

    /// Wakes the drainer if it sleeps and something waits for it.
    pub fn wake(&self) {
        // A thread that has posted here sees its items, unless they have been taken.
        if self.is_empty() {
            return;
        }
        let mut inside = self.lock();
        if inside.batch.is_empty() || mem::replace(&mut inside.awake, true) {
            return;
        }
        drop(inside);
        self.signal.raise();
    }

    /// Swaps the items that have come with `batch`, which is emptied first. Returns false when none have come; then
    /// the next post wakes the drainer.
    pub fn take(&self, batch: &mut B) -> bool {
        batch.clear();
        let mut inside = self.lock();
        if inside.batch.is_empty() {
            inside.awake = false;
            return false;
        }
        mem::swap(&mut inside.batch, batch);
        // Pairs with `has_capacity`: a session announces that it waits, and then finds no capacity. A thread that
        // looks for waiting sessions after this store sees that session.
        self.len.store(0, SeqCst);
        true
    }

    /// A panic of a producer cannot leave the batch half-written: items are added whole.
    fn lock(&self) -> MutexGuard<'_, Inside<B>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Signal for Counted {
        fn raise(&self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn raised(mailbox: &Mailbox<Vec<u32>, Counted>) -> usize {
        mailbox.signal().0.load(Relaxed)
    }

    #[test]
    fn a_burst_wakes_a_sleeping_drainer_once() {
        let mailbox = Mailbox::new(10, Counted::default());
        for item in 0..5_u32 {
            mailbox.post(|batch: &mut Vec<u32>| batch.push(item));
        }
        assert_eq!(raised(&mailbox), 1);
    }

    #[test]
    fn a_drainer_that_found_nothing_is_woken_by_the_next_post() {
        let mailbox = Mailbox::new(10, Counted::default());
        let mut batch = vec![99];
        mailbox.post(|batch: &mut Vec<u32>| batch.push(1));
        assert!(mailbox.take(&mut batch));
        assert_eq!(batch, [1]);
        mailbox.post(|batch| batch.push(2));
        assert_eq!(raised(&mailbox), 1, "it has not said that it sleeps");
        assert!(mailbox.take(&mut batch));
        assert!(!mailbox.take(&mut batch));
        assert!(batch.is_empty());
        mailbox.post(|batch| batch.push(3));
        assert_eq!(raised(&mailbox), 2);
    }

    #[test]
    fn a_raised_signal_ends_the_wait_and_says_when_it_was() {
        let before = Instant::now();
        let signal = FdSignal::new().expect("there are descriptors");
        assert!(!signal.is_raised());
        assert!(!signal.wait(Duration::ZERO));
        assert_eq!(signal.clear(), None);
        signal.raise();
        assert!(signal.is_raised());
        assert!(signal.wait(Duration::from_secs(60)));
        let raised = signal.clear().expect("it was raised");
        assert!(before <= raised && raised <= Instant::now());
        assert!(!signal.wait(Duration::ZERO), "it is forgotten");
    }

    #[test]
    fn what_was_posted_quietly_waits_for_the_wake() {
        let mailbox = Mailbox::new(10, Counted::default());
        mailbox.wake();
        assert_eq!(raised(&mailbox), 0, "nothing waits");
        mailbox.post_quietly(|batch: &mut Vec<u32>| batch.push(1));
        assert_eq!(raised(&mailbox), 0);
        mailbox.wake();
        mailbox.wake();
        assert_eq!(raised(&mailbox), 1);
    }

    #[test]
    fn it_says_when_it_is_full_and_again_when_there_is_room() {
        let mailbox = Mailbox::new(2, Counted::default());
        mailbox.post(|batch: &mut Vec<u32>| batch.extend([1, 2]));
        assert!(!mailbox.has_capacity());
        mailbox.take(&mut Vec::new());
        assert!(mailbox.has_capacity());
    }
}
