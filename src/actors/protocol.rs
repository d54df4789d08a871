//! The protocol that decides what happens with the messages of a client: the seam of a session.
//!
//! Adding a protocol touches two files: its own, with a [`Protocol`] and an [`Accept`], and the one that
//! registers its routes. The state of a session lives in the box that [`Accept::start`] returns. Everything
//! here is called on the I/O thread of the worker, and must not block.

use std::borrow::Cow;
use std::fmt;

use super::close::CloseCause;
use super::frame::{Kind, message_header};
use super::link::Link;
use super::publish::publish;
use super::rejection::Rejection;
use super::session_key::SessionKey;
use super::session_writer::SessionWriter;
use super::shared::Shared;
use super::topic::Topic;
use super::turn_queue::{Backlog, SessionRequest};
use crate::ipc::PublishError;

/// The behavior of a session: it handles the messages of its client.
///
/// The methods that can fail close the session for the cause that they return. Replies are sent before the
/// close frame.
pub trait Protocol: 'static {
    /// The session begins. Its replies are sent together with the response to the handshake; a topic that it
    /// subscribes to is subscribed before the client can know that it is connected.
    fn opened(&mut self, session: &mut SessionContext<'_>) -> Result<(), CloseCause> {
        let _ = session;
        Ok(())
    }

    /// A message of the client. If the payload was joined from several reads, it is owned, so that it can be moved.
    /// That of a [`Kind::Text`] is valid UTF-8.
    fn message(
        &mut self,
        kind: Kind,
        payload: Cow<'_, [u8]>,
        session: &mut SessionContext<'_>,
    ) -> Result<(), CloseCause>;

    /// Returns the queue that is too full for another message of the client. The session does not read until
    /// that queue has capacity again.
    fn must_pause(&self, worker: &Shared) -> Option<Backlog> {
        let _ = worker;
        None
    }

    /// Is the handler still answering an earlier message? A client that broke a rule is closed after the answer, or
    /// after [`Limits::answer_timeout`](super::limits::Limits::answer_timeout).
    fn is_answering(&self, link: &Link) -> bool {
        let _ = link;
        false
    }

    /// The session is over. Called exactly once, after the last message. Replies are not sent any more.
    fn closed(&mut self, cause: &CloseCause, session: &mut SessionContext<'_>) {
        let _ = (cause, session);
    }
}

/// Makes the protocol of each session of a route. Shared by all workers: made before they are forked.
pub trait Accept: fmt::Debug + Send + Sync + 'static {
    /// Makes the protocol for a client whose handshake is valid, or rejects the client.
    fn start(&self, handshake: &Handshake<'_>) -> Result<Box<dyn Protocol>, Rejection>;
}

/// The handshake of a client, as a protocol sees it.
pub struct Handshake<'h> {
    /// The path of the request, percent-decoded.
    pub path: &'h str,
    /// The values of the path's parameters, in the order of the path.
    pub values: &'h [&'h dyn fmt::Display],
    /// The subprotocol that the server prefers among those that the client offers. None: they have none in common.
    pub subprotocol: Option<&'h str>,
    /// The first value of a header, whose name is in lower case.
    pub header: &'h dyn Fn(&str) -> Option<&'h [u8]>,
}

impl fmt::Debug for Handshake<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Handshake")
            .field("path", &self.path)
            .field("subprotocol", &self.subprotocol)
            .finish_non_exhaustive()
    }
}

/// The operations that a protocol has for its session: reply, publish, subscribe, and pause reading.
pub struct SessionContext<'s> {
    pub(super) shared: &'s Shared,
    pub(super) writer: &'s SessionWriter,
    /// Frames that go out in one write, when all input that has come is decoded.
    pub(super) output: &'s mut Vec<u8>,
    /// The session does not read until it is resumed.
    pub(super) is_paused: &'s mut bool,
}

impl fmt::Debug for SessionContext<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SessionContext")
            .field("key", &self.key())
            .finish_non_exhaustive()
    }
}

impl SessionContext<'_> {
    /// The name of the session in its worker.
    pub fn key(&self) -> SessionKey {
        self.writer.key()
    }

    /// Sends a message to this client, in the order of the calls.
    pub fn reply(&mut self, kind: Kind, payload: &[u8]) {
        self.reply_in_parts(kind, [payload, &[]]);
    }

    /// Sends a message to this client whose payload is given in two parts.
    pub fn reply_in_parts(&mut self, kind: Kind, parts: [&[u8]; 2]) {
        self.writer.encoding().append(kind, parts, self.output);
    }

    /// Publishes to all subscribers of a topic, in every process. Returns the offset on the bus. Never waits: see
    /// [`Protocol::must_pause`] for the flow control.
    pub fn publish(
        &mut self,
        topic: &Topic,
        kind: Kind,
        payload: &[u8],
    ) -> Result<u64, PublishError> {
        self.publish_except(topic, kind, payload, 0)
    }

    /// Publishes to all subscribers of a topic except this client.
    pub fn publish_to_others(
        &mut self,
        topic: &Topic,
        kind: Kind,
        payload: &[u8],
    ) -> Result<u64, PublishError> {
        let key = self.key().as_u64();
        self.publish_except(topic, kind, payload, key)
    }

    fn publish_except(
        &mut self,
        topic: &Topic,
        kind: Kind,
        payload: &[u8],
        excluded: u64,
    ) -> Result<u64, PublishError> {
        let offset = publish(&self.shared.bus, topic, kind, payload, excluded)?;
        let bytes = message_header(kind, payload.len()).len() + payload.len();
        self.shared.turn_queue.note_published(offset, bytes);
        Ok(offset)
    }

    /// Subscribes the client: it gets the messages that are published from now on, by this session too.
    pub fn subscribe(&mut self, topic: Topic) {
        let bus = &self.shared.bus;
        // First the interest, then the end of the bus: a later record either lies behind `from`, or wakes the hub.
        bus.add_interest(topic.hash());
        let request = SessionRequest::Subscribe {
            session: self.key(),
            from: bus.end(),
            topic,
        };
        self.shared.turn_queue.request_for(request);
    }

    /// Ends the subscription of the client to a topic. It still gets the messages that were published before.
    pub fn unsubscribe(&mut self, topic: Topic) {
        let request = SessionRequest::Unsubscribe {
            session: self.key(),
            until: self.shared.bus.end(),
            topic,
        };
        self.shared.turn_queue.request_for(request);
    }

    /// Stops reading from this client, until the hub carries out
    /// [`Command::Resume`](super::hub::Command::Resume).
    pub fn pause(&mut self) {
        *self.is_paused = true;
    }
}

impl From<PublishError> for CloseCause {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooLarge { .. } => Self::TooLargeForBus,
            _ => Self::BusRefuses,
        }
    }
}
