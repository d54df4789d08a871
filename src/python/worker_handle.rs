//! The handle that any thread of Python uses to command the worker's I/O thread.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::events::EventBox;
use super::message::Message;
use super::publisher::Publisher;
use super::session_count::SessionCount;
use crate::actors::frame;
use crate::actors::hub::{Command, CommandMailbox, Commands};
use crate::actors::link::Link;
use crate::actors::replays::Replays;
use crate::actors::second_look::Drains;
use crate::actors::session_key::SessionKey;
use crate::http::replies::{Reply, ReplyBox, ReplyKey};
use crate::ipc::{Bus, PublishError, Replay};

/// The worker, as Python's sessions, requests and handlers use it.
pub(super) struct WorkerHandle {
    pub bus: Bus,
    commands: CommandMailbox,
    replies: ReplyBox,
    /// Large objects return here when they were sent.
    events: EventBox,
    /// An offset above those of all messages that the Python of this worker has published.
    published: AtomicU64,
    pub drains: Arc<Drains>,
    /// Sessions wait for capacity in the mailbox, and must be notified.
    pub stalled: AtomicBool,
    /// Sessions of turbo routes that hooks observe.
    pub observed: Arc<SessionCount>,
    /// Replays that several clients share.
    replays: Arc<Replays>,
}

/// Bytes of a replay up to which each client gets its own copy: hardly any of it will wait.
const MAX_COPIED: usize = 16 << 10;

thread_local! {
    /// This thread drains the mailbox: its commands are handed over at the end of the drain.
    static DRAINING: Cell<bool> = const { Cell::new(false) };
}

/// Restores the mark when it is dropped, also by a panic: a command must not wait forever.
struct DrainGuard(bool);

impl Drop for DrainGuard {
    fn drop(&mut self) {
        DRAINING.set(self.0);
    }
}

impl WorkerHandle {
    pub(super) fn new(
        bus: Bus,
        commands: CommandMailbox,
        replies: ReplyBox,
        replays: Arc<Replays>,
        events: EventBox,
    ) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            bus,
            commands,
            replies,
            events,
            published: AtomicU64::new(0),
            drains: Arc::new(Drains::new()?),
            stalled: AtomicBool::new(false),
            observed: Arc::default(),
            replays,
        }))
    }

    /// Runs `drain`, which begins now, and wakes the I/O thread once for all its commands and responses.
    pub(super) fn in_one_go(&self, now: Instant, drain: impl FnOnce()) {
        let draining = DrainGuard(DRAINING.replace(true));
        self.drains.begin(now);
        drain();
        self.drains.end();
        drop(draining);
        self.hand_over();
    }

    /// Wakes the I/O thread for the commands and responses that were posted quietly.
    fn hand_over(&self) {
        if self.stalled.swap(false, SeqCst) {
            self.commands
                .post(|commands| commands.push(Command::MailboxHasCapacity));
        }
        self.commands.wake();
        self.replies.wake();
    }

    /// I/O thread: takes the commands and responses of a drain that is still running.
    pub(super) fn take_early(&self) {
        self.commands.wake();
        self.replies.wake();
    }

    /// Sends the hub a command.
    pub(super) fn command(&self, command: Command) {
        self.command_with(|commands| commands.push(command));
    }

    /// Sends a message, read from `object`, to one session. `link` counts it first.
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
                self.command(Command::SendLarge {
                    session,
                    kind,
                    payload,
                });
            }
            Err(message) => {
                link.sent(len);
                let parts = [&*header, message.bytes()];
                self.command_with(|commands| commands.push_send(session, &parts));
            }
        }
        Ok(())
    }

    /// Sends frames of the bus to one session, in their order. `link` counts them first.
    pub(super) fn send_frames(&self, session: SessionKey, link: &Link, past: &Replay) {
        link.sent(past.frames.len());
        if past.frames.len() > MAX_COPIED {
            let pieces = self.replays.share(past);
            return self.command(Command::SendPast { session, pieces });
        }
        self.command_with(|commands| {
            for record in &past.records {
                commands.push_send(session, &[&past.frames[record.frame.clone()]]);
            }
        });
    }

    /// Responds to an HTTP request.
    pub(super) fn reply(&self, key: ReplyKey, answer: impl Into<Reply>) {
        let answer = answer.into();
        let put = |batch: &mut Vec<(ReplyKey, Reply)>| batch.push((key, answer));
        if DRAINING.get() {
            self.replies.post_quietly(put);
        } else {
            self.replies.post(put);
        }
    }

    fn command_with(&self, put: impl FnOnce(&mut Commands)) {
        let put = |commands: &mut Commands| {
            commands.follow(self.published.load(SeqCst));
            put(commands);
        };
        if DRAINING.get() {
            self.commands.post_quietly(put);
        } else {
            self.commands.post(put);
        }
    }
}

impl Publisher for WorkerHandle {
    fn bus(&self) -> &Bus {
        &self.bus
    }

    fn error(error: &PublishError) -> PyErr {
        PyRuntimeError::new_err(error.to_string())
    }

    /// The hub of this worker may be the slow one: it first gets the commands of this thread, perhaps a subscription
    /// to this topic.
    fn before_waiting(&self) {
        self.hand_over();
    }

    fn has_published(&self, offset: u64) {
        self.published.fetch_max(offset + 1, SeqCst);
    }
}
