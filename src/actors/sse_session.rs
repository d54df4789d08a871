//! An event stream: a session that only listens. It has a writer like any other, and no socket: what
//! the hub delivers waits in the outbox until the body of an HTTP response asks for it.
//!
//! Dropping it is its end: the hub forgets it.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::session_writer::SessionWriter;
use super::shared::Shared;
use super::socket_writer::{Acks, SocketWriter};
use super::topic::Topic;
use super::turn_queue::SessionRequest;
use crate::ipc::Bus;

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
pub struct SseSession {
    writer: Rc<SessionWriter>,
    shared: Rc<Shared>,
}

impl fmt::Debug for SseSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("SseSession")
            .field(&self.writer)
            .finish()
    }
}

impl SseSession {
    pub(super) fn new(writer: Rc<SessionWriter>, shared: Rc<Shared>) -> Self {
        Self { writer, shared }
    }

    /// The next piece, whole events. None when the worker ends; an error when the client was too slow,
    /// and has missed something.
    pub fn poll_next(&mut self, task: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.writer.poll_take(task)
    }
}

impl Drop for SseSession {
    fn drop(&mut self) {
        let session = self.writer.key();
        let request = SessionRequest::Leave { session };
        self.shared.turn_queue.request_for(request);
    }
}

/// Stands where a socket would: everything waits until it is asked for.
pub(super) struct NoSocket;

impl SocketWriter for NoSocket {
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
