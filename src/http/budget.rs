//! The budget that bounds the memory for bodies, and decides which bodies wait.
//!
//! A limit for each body does not limit many of them together. So a worker has one budget for the bodies of its
//! requests, and each HTTP/2 connection has a share of it. Bodies that are still arriving may use half of the
//! budget. A body that does not fit goes to a file while it arrives, so slow bodies do not delay others. When it is
//! complete, it waits for its turn to be read back, for which the other half is reserved.
//!
//! Responses that wait for their clients have their own budget. A response never waits for its turn: if it does not
//! fit, it goes to a file and is sent from there.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A number of bytes that bodies may hold together.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    /// The part that bodies without a turn may use.
    max_unqueued: usize,
    held: Cell<usize>,
    /// Complete bodies that wait for their turn, in order of arrival.
    queue: RefCell<WaitQueue>,
    /// Tasks that found no capacity, and do not wait for a turn.
    capacity_wakers: RefCell<Vec<Waker>>,
    /// The budget that this one is a share of.
    parent: Option<Rc<Budget>>,
}

#[derive(Debug, Default)]
struct WaitQueue {
    waiting: VecDeque<(u64, Waker)>,
    next: u64,
}

impl Budget {
    /// A budget of `max` bytes for the bodies of requests.
    pub(super) fn of_requests(max: usize) -> Rc<Self> {
        Self::make(max, max / 2, None)
    }

    /// A budget of `max` bytes for the bodies of responses.
    pub(super) fn of_responses(max: usize) -> Rc<Self> {
        Self::make(max, max, None)
    }

    /// A share of at most `max` bytes.
    pub(super) fn share(self: &Rc<Self>, max: usize) -> Rc<Self> {
        let is_divided = self.max_unqueued < self.max;
        let max_unqueued = if is_divided { max / 2 } else { max };
        Self::make(max, max_unqueued, Some(Rc::clone(self)))
    }

    fn make(max: usize, max_unqueued: usize, parent: Option<Rc<Self>>) -> Rc<Self> {
        Rc::new(Self {
            max,
            max_unqueued,
            held: Cell::new(0),
            queue: RefCell::default(),
            capacity_wakers: RefCell::default(),
            parent,
        })
    }

    /// Whether `bytes` more fit for a body that has no turn.
    fn fits_unqueued(&self, bytes: usize) -> bool {
        self.held.get() + bytes <= self.max_unqueued
            && self
                .parent
                .as_ref()
                .is_none_or(|it| it.fits_unqueued(bytes))
    }

    /// Whether a complete body of this size fits. A body larger than the whole budget fits if nothing else is held.
    fn fits_whole(&self, bytes: usize) -> bool {
        let held = self.held.get();
        (held == 0 || held + bytes <= self.max)
            && self.parent.as_ref().is_none_or(|it| it.fits_whole(bytes))
    }

    fn add(&self, bytes: usize) {
        self.held.set(self.held.get() + bytes);
        if let Some(parent) = &self.parent {
            parent.add(bytes);
        }
    }

    fn subtract(&self, bytes: usize) {
        self.held.set(self.held.get() - bytes);
        if let Some((_, first)) = self.queue.borrow().waiting.front() {
            first.wake_by_ref();
        }
        if self.held.get() < self.max_unqueued {
            for waker in self.capacity_wakers.take() {
                waker.wake();
            }
        }
        if let Some(parent) = &self.parent {
            parent.subtract(bytes);
        }
    }

    /// The outermost budget, which has the only queue.
    fn root(&self) -> &Self {
        self.parent.as_ref().map_or(self, |parent| parent.root())
    }
}

/// The bytes that one body holds of a [`Budget`]. Dropping it releases them.
#[derive(Debug)]
pub(super) struct Hold {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Hold {
    /// Holds nothing yet.
    pub(super) fn new(budget: &Rc<Budget>) -> Self {
        Self {
            budget: Rc::clone(budget),
            bytes: 0,
        }
    }

    /// Holds `bytes` more, if they fit without a turn.
    pub(super) fn try_grow(&mut self, bytes: usize) -> bool {
        let fits = self.budget.fits_unqueued(bytes);
        if fits {
            self.add(bytes);
        }
        fits
    }

    fn add(&mut self, bytes: usize) {
        self.budget.add(bytes);
        self.bytes += bytes;
    }

    /// The number of bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Wakes this task once, when bodies without a turn have capacity again.
    pub(super) fn wake_at_capacity(&self, waker: &Waker) {
        let mut budget = Some(&self.budget);
        while let Some(each) = budget {
            let wakers = &mut *each.capacity_wakers.borrow_mut();
            if !wakers.iter().any(|other| other.will_wake(waker)) {
                wakers.push(waker.clone());
            }
            budget = each.parent.as_ref();
        }
    }

    /// Waits for its turn, then holds a complete body of this size. It must hold nothing while it waits: otherwise
    /// two bodies could wait for each other.
    pub(super) async fn acquire(&mut self, bytes: usize) {
        debug_assert_eq!(self.bytes, 0, "two bodies would wait for each other");
        let budget = Rc::clone(&self.budget);
        let root = budget.root();
        let turn = Ticket::take(root);
        poll_fn(|task| {
            if turn.is_first() && self.budget.fits_whole(bytes) {
                self.add(bytes);
                return Poll::Ready(());
            }
            turn.register(task.waker());
            Poll::Pending
        })
        .await;
    }

    /// Releases all but `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        if less > 0 {
            self.budget.subtract(less);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// A position in the queue of a budget.
struct Ticket<'b> {
    budget: &'b Budget,
    number: u64,
}

impl<'b> Ticket<'b> {
    fn take(budget: &'b Budget) -> Self {
        let queue = &mut *budget.queue.borrow_mut();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push_back((number, Waker::noop().clone()));
        Self { budget, number }
    }

    fn is_first(&self) -> bool {
        let queue = self.budget.queue.borrow();
        queue.waiting.front().is_some_and(|it| it.0 == self.number)
    }

    fn register(&self, waker: &Waker) {
        let queue = &mut *self.budget.queue.borrow_mut();
        let own = queue.waiting.iter_mut().find(|it| it.0 == self.number);
        own.expect("it leaves when it is dropped")
            .1
            .clone_from(waker);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let queue = &mut *self.budget.queue.borrow_mut();
        queue.waiting.retain(|it| it.0 != self.number);
        if let Some((_, first)) = queue.waiting.front() {
            first.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::{Context, Wake};

    use super::*;

    #[test]
    fn a_share_is_bounded_by_its_own_size_and_by_its_budget() {
        let all = Budget::of_requests(20);
        let share = all.share(12);
        let (mut one, mut two, mut other) = (Hold::new(&share), Hold::new(&share), Hold::new(&all));
        assert!(one.try_grow(4));
        assert!(!two.try_grow(3));
        assert!(two.try_grow(2));
        assert!(!other.try_grow(5));
        assert!(other.try_grow(4));
        one.shrink_to(1);
        assert!(!two.try_grow(4));
        assert!(two.try_grow(3));
        drop((one, two, other));
        assert_eq!((all.held.get(), share.held.get()), (0, 0));
    }

    #[test]
    fn responses_may_have_all_of_their_budget() {
        let all = Budget::of_responses(20);
        let share = all.share(12);
        let (mut one, mut other) = (Hold::new(&share), Hold::new(&all.share(12)));
        assert!(one.try_grow(12));
        assert!(!one.try_grow(1));
        assert!(!other.try_grow(9));
        assert!(other.try_grow(8));
    }

    #[test]
    fn slow_bodies_leave_half_of_the_budget_to_complete_ones() {
        let all = Budget::of_requests(10);
        let mut task = Context::from_waker(Waker::noop());
        let (mut slow, mut whole, mut large) = (Hold::new(&all), Hold::new(&all), Hold::new(&all));
        assert!(slow.try_grow(5));
        assert!(!slow.try_grow(1));
        assert!(pin!(whole.acquire(5)).poll(&mut task).is_ready());
        {
            let mut waits = pin!(large.acquire(11));
            assert!(waits.as_mut().poll(&mut task).is_pending());
            drop((slow, whole));
            // A body larger than the budget fits alone.
            assert!(waits.as_mut().poll(&mut task).is_ready());
        }
        assert!(!Hold::new(&all).try_grow(1));
    }

    #[test]
    fn a_task_without_capacity_is_woken_when_bytes_are_released() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let all = Budget::of_requests(10);
        let (mut one, mut other) = (Hold::new(&all), Hold::new(&all.share(8)));
        assert!(one.try_grow(5) && !other.try_grow(1));
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&woken));
        other.wake_at_capacity(&waker);
        other.wake_at_capacity(&waker);
        one.shrink_to(4);
        one.shrink_to(3);
        assert_eq!(woken.0.load(Relaxed), 1);
        assert!(other.try_grow(2));
    }

    #[test]
    fn turns_come_in_order_and_are_passed_on() {
        let all = Budget::of_requests(10);
        let mut task = Context::from_waker(Waker::noop());
        let mut running = Hold::new(&all);
        assert!(pin!(running.acquire(10)).poll(&mut task).is_ready());
        let (mut first, mut second, mut third) =
            (Hold::new(&all), Hold::new(&all), Hold::new(&all));
        let mut turn = Box::pin(first.acquire(8));
        let mut second = Box::pin(second.acquire(8));
        let mut third = pin!(third.acquire(1));
        assert!(turn.as_mut().poll(&mut task).is_pending());
        assert!(second.as_mut().poll(&mut task).is_pending());
        assert!(third.as_mut().poll(&mut task).is_pending());
        running.shrink_to(2);
        // It would fit, but others came before it.
        assert!(third.as_mut().poll(&mut task).is_pending());
        drop(second);
        assert!(turn.as_mut().poll(&mut task).is_ready());
        drop(turn);
        drop(first);
        assert!(third.as_mut().poll(&mut task).is_ready());
    }
}
