//! HTTP requests that wait for user code on another thread.
//!
//! Replies come back in batches through a mailbox, so that a burst of them wakes the I/O thread
//! once. A client that goes away forgets its key; a reply that comes later finds nobody.

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

/// Replies on their way from user code.
pub type ReplyBox = Arc<Mailbox<Vec<(ReplyKey, Reply)>, TaskSignal>>;

/// What user code has for a client.
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

/// Names a request that waits, in its worker.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct ReplyKey {
    slot: u32,
    /// The slot's use, so that a late reply does not answer the next request.
    generation: u32,
}

/// The requests of a worker that wait.
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
    /// Hints that the request has had, sent or not.
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
    /// Nobody waits yet.
    pub fn new(mailbox: ReplyBox) -> Rc<Self> {
        Rc::new(Self {
            waiting: RefCell::default(),
            mailbox,
        })
    }

    /// Requests that wait for their reply.
    pub fn in_flight(&self) -> usize {
        self.waiting.borrow().slots.len()
    }

    /// Begins to wait. The future resolves with the reply; dropping it forgets the request. Hints that come before
    /// the reply are put into `queue`.
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

    /// Hands out replies for as long as the worker lives.
    pub async fn hand_out(self: Rc<Self>) {
        let mut batch = Vec::new();
        std::future::poll_fn(|task: &mut Context<'_>| {
            self.mailbox.signal().register(task.waker());
            while self.mailbox.take(&mut batch) {
                for (key, answer) in batch.drain(..) {
                    self.answer(key, answer);
                }
            }
            Poll::<()>::Pending
        })
        .await;
    }

    fn answer(&self, key: ReplyKey, answer: Reply) {
        let waiting = &mut *self.waiting.borrow_mut();
        let slot = waiting.slots.get_mut(key.slot as usize);
        if let Some(slot) = slot.filter(|slot| slot.generation == key.generation) {
            match answer {
                // The first reply counts.
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
    /// Hints behind the response, or more of them than a request may have, are not sent.
    fn add(&mut self, hints: EarlyHints) {
        if self.response.is_none() && self.hint_count < MAX_EARLY_HINTS && !hints.is_empty() {
            self.hint_count += 1;
            self.hints.push(hints);
        }
    }
}

/// A reply to come.
#[derive(Debug)]
pub(super) struct PendingReply<'r> {
    replies: Rc<Replies>,
    /// What user code answers to.
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
