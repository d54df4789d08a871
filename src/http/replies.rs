//! The requests that wait for the replies of user code on another thread.
//!
//! Replies arrive in batches through a mailbox, so a burst of them wakes the I/O thread once. When a client
//! disconnects, its key becomes invalid, and a later reply is dropped.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use super::early_hints::{EarlyHints, HintQueue};
use super::limits::MAX_EARLY_HINTS;
use super::response::Response;
use crate::actors::mailbox::{Mailbox, TaskSignal};

/// The mailbox for replies of user code.
pub type ReplyBox = Arc<Mailbox<Vec<(ReplyKey, Reply)>, TaskSignal>>;

/// A reply of user code to a request.
#[derive(Debug)]
pub enum Reply {
    /// Headers that the client gets before the response.
    Hints(EarlyHints),
    /// The response.
    Response(Response),
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

/// The key of a waiting request in its worker.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct ReplyKey {
    slot: u32,
    /// The slot's generation: a late reply must not reach the next request in the slot.
    generation: u32,
}

/// The waiting requests of a worker.
pub struct Replies {
    waiting: RefCell<Waiting>,
    mailbox: ReplyBox,
}

#[derive(Default)]
struct Waiting {
    slots: Slab<Slot>,
    generation: u32,
}

struct Slot {
    generation: u32,
    waker: Option<Waker>,
    /// Hints of the request so far, sent or not.
    hint_count: usize,
    hints: Vec<EarlyHints>,
    response: Option<Response>,
}

impl fmt::Debug for Replies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Replies")
            .field("waiting", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl Replies {
    /// No request waits yet.
    pub fn new(mailbox: ReplyBox) -> Rc<Self> {
        Rc::new(Self {
            waiting: RefCell::default(),
            mailbox,
        })
    }

    /// The number of requests that wait for their reply.
    pub fn in_flight(&self) -> usize {
        self.waiting.borrow().slots.len()
    }

    /// Registers a request. The future resolves with the response; dropping it invalidates the key. Early hints go
    /// into `queue`.
    pub(super) fn expect<'r>(self: &Rc<Self>, queue: &'r HintQueue) -> PendingReply<'r> {
        let waiting = &mut *self.waiting.borrow_mut();
        waiting.generation = waiting.generation.wrapping_add(1);
        let generation = waiting.generation;
        let slot = waiting.slots.insert(Slot {
            generation,
            waker: None,
            hint_count: 0,
            hints: Vec::new(),
            response: None,
        }) as u32;
        PendingReply {
            replies: Rc::clone(self),
            key: ReplyKey { slot, generation },
            queue,
        }
    }

    /// Delivers replies for as long as the worker runs.
    pub async fn deliver(self: Rc<Self>) {
        let mut batch = Vec::new();
        std::future::poll_fn(|task: &mut Context<'_>| {
            self.mailbox.signal().register(task.waker());
            while self.mailbox.take(&mut batch) {
                for (key, reply) in batch.drain(..) {
                    self.put(key, reply);
                }
            }
            Poll::<()>::Pending
        })
        .await;
    }

    fn put(&self, key: ReplyKey, reply: Reply) {
        let waiting = &mut *self.waiting.borrow_mut();
        let slot = waiting.slots.get_mut(key.slot as usize);
        if let Some(slot) = slot.filter(|slot| slot.generation == key.generation) {
            match reply {
                // Only the first response counts.
                Reply::Response(response) => {
                    slot.response.get_or_insert(response);
                }
                Reply::Hints(hints) => slot.add(hints),
            }
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Slot {
    /// Adds hints. They are dropped after the response, and beyond the limit per request.
    fn add(&mut self, hints: EarlyHints) {
        if self.response.is_none() && self.hint_count < MAX_EARLY_HINTS && !hints.is_empty() {
            self.hint_count += 1;
            self.hints.push(hints);
        }
    }
}

/// A future that resolves with the response.
#[derive(Debug)]
pub(super) struct PendingReply<'r> {
    replies: Rc<Replies>,
    /// The key that user code replies to.
    pub(super) key: ReplyKey,
    queue: &'r HintQueue,
}

impl Future for PendingReply<'_> {
    type Output = Response;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Response> {
        let waiting = &mut *self.replies.waiting.borrow_mut();
        let slot = &mut waiting.slots[self.key.slot as usize];
        if !slot.hints.is_empty() {
            self.queue.add(std::mem::take(&mut slot.hints));
        }
        if let Some(response) = slot.response.take() {
            return Poll::Ready(response);
        }
        slot.waker = Some(task.waker().clone());
        Poll::Pending
    }
}

impl Drop for PendingReply<'_> {
    fn drop(&mut self) {
        self.replies
            .waiting
            .borrow_mut()
            .slots
            .remove(self.key.slot as usize);
    }
}
