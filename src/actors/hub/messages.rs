//! The commands of handlers on other threads, and the requests of sessions, that the hub carries out.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Hub;
use super::registry::Endpoint;
use super::requests::{OpenEventStream, OpenWebSocket};
use crate::actors::arena::Arena;
use crate::actors::close::CloseCause;
use crate::actors::deflate::Encoding;
use crate::actors::frame::Kind;
use crate::actors::limits::Limits;
use crate::actors::link::Link;
use crate::actors::mailbox::Batch;
use crate::actors::rejection::Rejection;
use crate::actors::replays::Piece;
use crate::actors::session_key::SessionKey;
use crate::actors::session_writer::{Control, SessionWriter};
use crate::actors::sse_session::{NoSocket, SseSession};
use crate::actors::topic::Topic;
use crate::actors::turn_queue::SessionRequest;

/// A command of a handler, on any thread.
#[derive(Debug)]
pub enum Command {
    /// Accept the client.
    Accept {
        /// The session of the client.
        session: SessionKey,
        /// Subprotocol to answer with.
        subprotocol: Option<String>,
    },
    /// Reject the client with an HTTP response.
    Reject {
        /// The session of the client.
        session: SessionKey,
        /// In a box, because it is rare, and large.
        rejection: Box<Rejection>,
    },
    /// The commands that follow were issued after everything on the bus before that offset was published.
    After {
        /// The offset.
        offset: u64,
    },
    /// Send whole frames, which stand in the batch's `bytes`.
    Send {
        /// The receiving session.
        session: SessionKey,
        /// The number of bytes, which follow those of the send before.
        len: usize,
    },
    /// Send a large message, which is written from its place in memory, without a copy.
    SendLarge {
        /// The receiving session.
        session: SessionKey,
        /// Text or binary.
        kind: Kind,
        /// Without a header.
        payload: Bytes,
    },
    /// Send messages of a topic's past.
    SendPast {
        /// The receiving session.
        session: SessionKey,
        /// Their frames, as [`Replays`](crate::actors::replays::Replays) shares them.
        pieces: Vec<Piece>,
    },
    /// Close.
    Close {
        /// The session.
        session: SessionKey,
        /// The cause, with the code and the reason.
        cause: CloseCause,
    },
    /// Deliver the topic from offset `from` on. The caller has added interest in the topic before
    /// it read the offset, and the hub takes the interest over.
    Subscribe {
        /// The session.
        session: SessionKey,
        /// The topic.
        topic: Topic,
        /// The end of the bus when the handler subscribed.
        from: u64,
    },
    /// No longer deliver the topic.
    Unsubscribe {
        /// The session.
        session: SessionKey,
        /// The topic.
        topic: Topic,
    },
    /// The handler has caught up with a session that was paused.
    Resume {
        /// The session.
        session: SessionKey,
    },
    /// The handler's mailbox has capacity again.
    MailboxHasCapacity,
    /// End the worker: close all sessions within this time.
    ShutDown {
        /// Time to close in.
        grace: Duration,
    },
}

/// Commands in their order, with the bytes of the sends in one arena.
#[derive(Debug, Default)]
pub struct Commands {
    arena: Arena<Command>,
    /// The offset of the last [`Command::After`] that was ever among them.
    after: u64,
}

/// The body of a rejection because the queue for user code is full.
const BUSY: &str = "The server is busy. Try again in a moment.";

impl Commands {
    /// Adds a command other than a send.
    pub fn push(&mut self, command: Command) {
        self.arena.list.push(command);
    }

    /// Commands that are added from here on come behind everything on the bus before that offset.
    pub fn follow(&mut self, offset: u64) {
        if offset > self.after {
            self.after = offset;
            self.push(Command::After { offset });
        }
    }

    /// Adds a send of a frame in several parts. A send to the same session as the one before joins it, so that both
    /// go out in one write.
    pub fn push_send(&mut self, session: SessionKey, parts: &[&[u8]]) {
        let added: usize = parts.iter().map(|part| part.len()).sum();
        for part in parts {
            self.arena.bytes.extend_from_slice(part);
        }
        match self.arena.list.last_mut() {
            Some(Command::Send { session: last, len }) if *last == session => *len += added,
            _ => self.arena.list.push(Command::Send {
                session,
                len: added,
            }),
        }
    }
}

impl Batch for Commands {
    fn len(&self) -> usize {
        self.arena.len()
    }

    fn clear(&mut self) {
        self.arena.clear();
    }
}

impl Hub {
    /// Carries out a batch in its order.
    pub(super) fn carry_out(&mut self, commands: &mut Commands) {
        let Arena { list, bytes } = &mut commands.arena;
        let mut bytes = bytes.as_slice();
        let mut after = 0;
        for command in list.drain(..) {
            match command {
                Command::After { offset } => after = offset,
                Command::Send { session, len } => {
                    let (frames, rest) = bytes.split_at(len);
                    bytes = rest;
                    self.deliver_ahead(session, after);
                    if let Some(writer) = self.registry.writer(session) {
                        writer.send_messages(frames);
                    }
                }
                Command::SendLarge {
                    session,
                    kind,
                    payload,
                } => {
                    self.deliver_ahead(session, after);
                    if let Some(writer) = self.registry.writer(session) {
                        writer.send_large(kind, payload);
                    }
                }
                Command::SendPast { session, pieces } => {
                    self.deliver_ahead(session, after);
                    if let Some(writer) = self.registry.writer(session) {
                        writer.send_past(pieces);
                    }
                }
                Command::Accept {
                    session,
                    subprotocol,
                } => self.accept(session, subprotocol),
                Command::Reject { session, rejection } => self.reject(session, *rejection),
                Command::Close { session, cause } => {
                    self.deliver_ahead(session, after);
                    self.close(session, cause);
                }
                Command::Subscribe {
                    session,
                    topic,
                    from,
                } => self.subscribe(session, topic, from),
                Command::Unsubscribe { session, topic } => {
                    self.deliver_ahead(session, after);
                    self.unsubscribe(session, &topic);
                }
                Command::Resume { session } => self.registry.order(session, Control::Resume),
                Command::MailboxHasCapacity => {}
                Command::ShutDown { grace } => self.shut_down(grace),
            }
        }
    }

    /// Gives a client a place, and accepts it or calls its handler.
    pub(super) fn open_websocket(&mut self, open: OpenWebSocket) {
        let endpoint = Endpoint::WebSocket(open.endpoint);
        let calls_user_code = open.admission.is_some() || open.on_open.is_some();
        let busy = (calls_user_code && !self.inbox.has_capacity()).then_some(BUSY);
        if let Some(reason) = self.refusal(endpoint, &open.limits).or(busy) {
            open.opening.reject(Rejection::new(503, reason));
            return;
        }
        let OpenWebSocket {
            opening,
            protocol,
            limits,
            admission,
            on_open,
            ..
        } = open;
        let entered = self
            .registry
            .enter(opening, protocol, limits, endpoint, on_open);
        let (key, link) = entered;
        match admission {
            Some(ask) => {
                self.look_at(key, Instant::now());
                ask(key, link);
            }
            None => self.accept(key, None),
        }
    }

    /// The reason why the endpoint takes no more sessions now, if it takes none.
    fn refusal(&self, endpoint: Endpoint, limits: &Limits) -> Option<&'static str> {
        if self.registry.len() >= self.most_sessions {
            return Some("Too many connections to this server. Try again later.");
        }
        let most = limits.max_connections?;
        (self.registry.sessions_of(endpoint) >= most)
            .then_some("Too many connections to this address. Try again later.")
    }

    /// Begins an event stream, or answers with the reason why there is none.
    pub(super) fn open_event_stream(&mut self, open: OpenEventStream) {
        let OpenEventStream {
            topic,
            from,
            beginning,
            limits,
            endpoint,
            answer,
        } = open;
        if answer.is_closed() {
            return; // the client has gone
        }
        let endpoint = Endpoint::Events(endpoint);
        if let Some(reason) = self.refusal(endpoint, &limits) {
            // If the client has gone meanwhile, it does not miss the answer.
            let _ = answer.send(Err(reason));
            return;
        }
        let shared = Rc::clone(&self.shared);
        let turn_queue = Rc::clone(&self.turn_queue);
        let (key, writer) = self.registry.seat(limits, endpoint, |key, limits| {
            let link = Arc::new(Link::new(limits.max_queue_bytes));
            let socket = Box::new(NoSocket);
            let encoding = Encoding::Events;
            Rc::new(SessionWriter::new(
                socket, key, encoding, limits, link, turn_queue,
            ))
        });
        // The client of an event stream sends nothing.
        writer.set_reading(false);
        writer.begin_events(beginning);
        let _ = answer.send(Ok(SseSession::new(writer, shared)));
        self.subscribe(key, topic.hand_over(), from);
        self.look_at(key, Instant::now());
        self.close_if_late(key);
    }

    fn accept(&mut self, key: SessionKey, subprotocol: Option<String>) {
        let shared = Rc::clone(&self.shared);
        self.registry.accept(key, &shared, subprotocol);
        // The session does not run before this turn is over: so its first subscriptions exist when it does.
        self.carry_out_requests();
        self.look_at(key, Instant::now());
        self.close_if_late(key);
    }

    /// Carries out the requests of sessions in their order.
    pub(super) fn carry_out_requests(&mut self) {
        for request in self.turn_queue.take_requests() {
            match request {
                SessionRequest::Subscribe {
                    session,
                    topic,
                    from,
                } => self.subscribe(session, topic, from),
                SessionRequest::Unsubscribe {
                    session,
                    topic,
                    until,
                } => {
                    self.deliver_ahead(session, until);
                    self.unsubscribe(session, &topic);
                }
                SessionRequest::Leave { session } => self.release(session),
            }
        }
    }

    /// Releases a session that is over, with its subscriptions.
    fn release(&mut self, session: SessionKey) {
        for topic in self.registry.leave(session) {
            if let Some(hash) = self.topics.leave(topic, session) {
                self.bus.remove_interest(hash);
            }
        }
    }

    fn reject(&mut self, key: SessionKey, rejection: Rejection) {
        if let Some(opening) = self.registry.take_opening(key) {
            opening.reject(rejection);
        }
    }
}
