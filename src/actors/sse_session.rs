//! The session that serves an event stream, whose client only receives. It has a writer like a WebSocket, and no
//! socket: events wait in the outbox until the body of an HTTP response takes them.
//!
//! When it is dropped, it ends: the hub releases it.

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

/// The interest that this worker has in a topic: records of it wake the hub, until this is dropped.
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
    /// Adds the interest to the bus.
    pub fn new(bus: Bus, topic: Topic) -> Self {
        bus.add_interest(topic.hash());
        let topic = Some(topic);
        Self { bus, topic }
    }

    /// Hands the interest over to a subscription, which ends it.
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

/// An open event stream.
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

    /// The next whole events. None when the worker shuts down; an error when the client was too slow, and has
    /// missed messages.
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

/// Takes the place of a socket: everything waits in the outbox until it is taken.
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

    /// The connection has a limit of its own for a client that does not read.
    fn acks(&self) -> Option<Acks> {
        None
    }
}
