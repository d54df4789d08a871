//! An event stream: a session that only listens. It has a writer like any other, and no socket: what
//! the hub delivers waits in the outbox until the body of an HTTP response asks for it.
//!
//! Dropping it is its end: the hub forgets it.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::hub::Leave;
use super::limits::Limits;
use super::replays::Piece;
use super::session_writer::SessionWriter;
use super::shared::Shared;
use super::socket_writer::{Acks, SocketWriter};
use super::topic::Topic;
use crate::ipc::Bus;

/// A client asks to listen. Left for the end of the turn, as an
/// [`Open`](crate::actors::hub::Open) is.
pub struct Listen {
    /// What it listens to.
    pub topic: Interest,
    /// The end of the bus when it began to be interested: what lies behind is delivered.
    pub from: u64,
    /// What is sent before anything is delivered.
    pub beginning: Vec<Piece>,
    /// The limits of its stream.
    pub limits: Rc<Limits>,
    /// Which HTTP endpoint it is, for limits on the number of streams.
    pub endpoint: u32,
    /// Gets the stream, or a sentence why there is none.
    pub answer: oneshot::Sender<Result<Listening, &'static str>>,
}

impl fmt::Debug for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Listen")
            .field("topic", &self.topic)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// That this worker wants to be woken for a topic, until it is dropped.
pub struct Interest {
    bus: Bus,
    /// None: a subscription has taken it over.
    topic: Option<Topic>,
}

impl fmt::Debug for Interest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Interest")
            .field(&self.topic)
            .finish()
    }
}

impl Interest {
    /// Says that there is some.
    pub fn new(bus: Bus, topic: Topic) -> Self {
        bus.add_interest(topic.hash());
        let topic = Some(topic);
        Self { bus, topic }
    }

    /// Leaves it to the subscription, which ends it.
    pub(super) fn hand_over(mut self) -> Topic {
        self.topic.take().expect("handed over once")
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        if let Some(topic) = &self.topic {
            self.bus.remove_interest(topic.hash());
        }
    }
}

/// See the module's documentation.
pub struct Listening {
    writer: Rc<SessionWriter>,
    shared: Rc<Shared>,
}

impl fmt::Debug for Listening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Listening")
            .field(&self.writer)
            .finish()
    }
}

impl Listening {
    pub(super) fn new(writer: Rc<SessionWriter>, shared: Rc<Shared>) -> Self {
        Self { writer, shared }
    }

    /// The next piece, whole events. None when the worker ends; an error when the client was too slow,
    /// and has missed something.
    pub fn poll_next(&mut self, task: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.writer.poll_take(task)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.shared.hub.do_send(Leave(self.writer.key()));
    }
}

/// Stands where a socket would: everything waits until it is asked for.
pub(super) struct Asked;

impl SocketWriter for Asked {
    fn try_write(&self, _: &[u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn try_write_vectored(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn finish(&self) {}

    /// The connection has a limit of its own for a client that takes nothing.
    fn acks(&self) -> Option<Acks> {
        None
    }
}
