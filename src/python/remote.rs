//! The way from Python, on any thread, to the worker's I/O thread.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::handler::EventBox;
use super::message::{self, Message};
use super::visit::Count;
use crate::actors::frame;
use crate::actors::hub::{Command, Commands, Orders};
use crate::actors::link::Link;
use crate::actors::replays::Replays;
use crate::actors::second_look::Drains;
use crate::actors::session_key::SessionKey;
use crate::actors::topic::Topic;
use crate::http::replies::{Answer, ReplyBox, ReplyKey};
use crate::ipc::{Bus, Past, PublishError};

/// Shared by everything in Python that acts on the worker.
pub(super) struct Remote {
    pub bus: Bus,
    orders: Orders,
    replies: ReplyBox,
    /// Where large objects go when they were sent.
    events: EventBox,
    /// An offset above those of all that this worker's Python has published.
    published: AtomicU64,
    pub drains: Arc<Drains>,
    /// Sessions wait until the mailbox has room, and want to hear of it.
    pub stalled: AtomicBool,
    /// Sessions of turbo routes that hooks have to do with.
    pub visits: Arc<Count>,
    /// What is sent of the past.
    replays: Arc<Replays>,
}

/// Bytes of a replay up to which each client gets its own copy: hardly any of it will wait.
const MOST_COPIED: usize = 16 << 10;

thread_local! {
    /// This thread drains the mailbox: what it orders is handed over at the end of the drain.
    static DRAINING: Cell<bool> = const { Cell::new(false) };
}

/// Restores the mark when it is dropped, also by a panic: an order that is never handed over would
/// be worse.
struct Draining(bool);

impl Drop for Draining {
    fn drop(&mut self) {
        DRAINING.set(self.0);
    }
}

impl Remote {
    pub(super) fn new(
        bus: Bus,
        orders: Orders,
        replies: ReplyBox,
        replays: Arc<Replays>,
        events: EventBox,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            bus,
            orders,
            replies,
            events,
            published: AtomicU64::new(0),
            drains: Arc::new(Drains::new()?),
            stalled: AtomicBool::new(false),
            visits: Arc::default(),
            replays,
        }))
    }

    /// Runs `drain`, which begins now, and wakes the I/O thread once for all that it ordered and answered.
    pub(super) fn in_one_go(&self, now: Instant, drain: impl FnOnce()) {
        let draining = Draining(DRAINING.replace(true));
        self.drains.begin(now);
        drain();
        self.drains.end();
        drop(draining);
        self.hand_over();
    }

    /// Wakes the I/O thread for what was ordered and answered quietly.
    fn hand_over(&self) {
        if self.stalled.swap(false, SeqCst) {
            self.orders
                .post(|commands| commands.push(Command::MailboxHasRoom));
        }
        self.orders.wake();
        self.replies.wake();
    }

    /// I/O thread: takes what a drain that is still under way has ordered and answered so far.
    pub(super) fn take_early(&self) {
        self.orders.wake();
        self.replies.wake();
    }

    /// Gives the hub a command.
    pub(super) fn order(&self, command: Command) {
        self.order_with(|commands| commands.push(command));
    }

    /// Sends a message, which is `object`, to one session; it is counted by `link` first.
    pub(super) fn send(
        &self,
        session: SessionKey,
        link: &Link,
        message: Message<'_>,
        object: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let kind = message.kind();
        let header = frame::message_header(kind, message.bytes().len());
        let len = header.len() + message.bytes().len();
        match message.into_large(object, &self.events)? {
            Ok(payload) => {
                link.sent(len);
                self.order(Command::SendLarge {
                    session,
                    kind,
                    payload,
                });
            }
            Err(message) => {
                link.sent(len);
                let parts = [&*header, message.bytes()];
                self.order_with(|commands| commands.push_send(session, &parts));
            }
        }
        Ok(())
    }

    /// Sends frames from the bus to one session, in their order; they are counted by `link` first.
    pub(super) fn send_frames(&self, session: SessionKey, link: &Link, past: &Past) {
        link.sent(past.frames.len());
        if past.frames.len() > MOST_COPIED {
            let pieces = self.replays.share(past);
            return self.order(Command::SendPast { session, pieces });
        }
        self.order_with(|commands| {
            for record in &past.records {
                commands.push_send(session, &[&past.frames[record.frame.clone()]]);
            }
        });
    }

    /// Answers an HTTP request.
    pub(super) fn reply(&self, key: ReplyKey, answer: impl Into<Answer>) {
        let answer = answer.into();
        let put = |batch: &mut Vec<(ReplyKey, Answer)>| batch.push((key, answer));
        if DRAINING.get() {
            self.replies.post_quietly(put);
        } else {
            self.replies.post(put);
        }
    }

    /// Publishes to everybody; `left_out` is a session of this worker, or 0. If hubs are to be waited for,
    /// the worker's own first gets what this thread has for it: a subscription to this very topic, for one.
    pub(super) fn publish(
        &self,
        py: Python<'_>,
        topic: &Topic,
        message: &Message<'_>,
        left_out: u64,
    ) -> PyResult<u64> {
        let hand_over = || self.hand_over();
        let published = message::publish(py, &self.bus, topic, message, left_out, hand_over);
        let offset = published.map_err(|error| match error {
            PublishError::TooLarge { .. } => PyValueError::new_err(error.to_string()),
            _ => PyRuntimeError::new_err(error.to_string()),
        })?;
        self.published.fetch_max(offset + 1, SeqCst);
        Ok(offset)
    }

    fn order_with(&self, put: impl FnOnce(&mut Commands)) {
        let put = |commands: &mut Commands| {
            commands.follow(self.published.load(SeqCst));
            put(commands);
        };
        if DRAINING.get() {
            self.orders.post_quietly(put);
        } else {
            self.orders.post(put);
        }
    }
}
