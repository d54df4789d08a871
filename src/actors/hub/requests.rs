//! The requests that new clients have for the hub: a WebSocket or an event stream. They wait for the end of the
//! turn, because their contents belong to the I/O thread.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::actors::limits::Limits;
use crate::actors::link::Link;
use crate::actors::protocol::Protocol;
use crate::actors::rejection::Rejection;
use crate::actors::replays::Piece;
use crate::actors::session_key::SessionKey;
use crate::actors::session_writer::SessionWriter;
use crate::actors::shared::Shared;
use crate::actors::sse_session::{Interest, SseSession};
use crate::actors::turn_queue::TurnQueue;

/// A client whose handshake has been checked and not been answered yet.
pub trait PendingClient: 'static {
    /// Answers that the connection is a WebSocket now, and starts the session.
    fn accept(self: Box<Self>, start: SessionStart) -> Rc<SessionWriter>;
    /// Answers with an HTTP response instead, and closes the connection.
    fn reject(self: Box<Self>, rejection: Rejection);
}

/// The parts that a session needs to start.
pub struct SessionStart {
    /// Its name in this worker.
    pub key: SessionKey,
    /// The parts that all sessions share.
    pub shared: Rc<Shared>,
    /// Decides what happens with messages.
    pub protocol: Box<dyn Protocol>,
    /// Its limits.
    pub limits: Rc<Limits>,
    /// The counts that it shares with its handler.
    pub link: Arc<Link>,
    /// The subprotocol that the handler chose.
    pub subprotocol: Option<String>,
}

impl fmt::Debug for SessionStart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SessionStart")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// A client asks for a WebSocket.
pub struct OpenWebSocket {
    /// The client.
    pub opening: Box<dyn PendingClient>,
    /// The behavior of its session.
    pub protocol: Box<dyn Protocol>,
    /// The limits of its session.
    pub limits: Rc<Limits>,
    /// The number of its WebSocket endpoint, for limits on the number of sessions.
    pub endpoint: u32,
    /// Called first; the handler accepts or rejects the client. None: the client is accepted at once.
    pub admission: Option<AskHandler>,
    /// Called when the client is accepted.
    pub on_open: Option<NotifyOpened>,
}

/// Notifies the handler that a client asks for a WebSocket. The handler answers with
/// [`Command::Accept`](super::Command::Accept) or [`Command::Reject`](super::Command::Reject).
pub type AskHandler = Box<dyn FnOnce(SessionKey, Arc<Link>)>;

/// Notifies user code that the session is open.
pub type NotifyOpened = Box<dyn FnOnce(SessionKey)>;

impl fmt::Debug for OpenWebSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OpenWebSocket")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// A client asks for an event stream.
pub struct OpenEventStream {
    /// The topic of the stream.
    pub topic: Interest,
    /// The end of the bus when the interest began: later records are delivered.
    pub from: u64,
    /// Sent before anything is delivered.
    pub beginning: Vec<Piece>,
    /// The limits of its stream.
    pub limits: Rc<Limits>,
    /// The number of its HTTP endpoint, for limits on the number of streams.
    pub endpoint: u32,
    /// Gets the stream, or a sentence with the reason why there is none.
    pub answer: oneshot::Sender<Result<SseSession, &'static str>>,
}

impl fmt::Debug for OpenEventStream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OpenEventStream")
            .field("topic", &self.topic)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// The requests that the hub has not carried out yet. Shared by everything on a worker's I/O thread.
#[derive(Debug)]
pub struct Requests {
    turn_queue: Rc<TurnQueue>,
    websockets: RefCell<Vec<OpenWebSocket>>,
    event_streams: RefCell<Vec<OpenEventStream>>,
}

impl Requests {
    /// No requests. `turn_queue` wakes the hub.
    pub fn new(turn_queue: Rc<TurnQueue>) -> Rc<Self> {
        Rc::new(Self {
            turn_queue,
            websockets: RefCell::default(),
            event_streams: RefCell::default(),
        })
    }

    /// The queue that wakes the hub.
    pub(super) fn turn_queue(&self) -> &Rc<TurnQueue> {
        &self.turn_queue
    }

    /// A client asks for a WebSocket.
    pub fn open_websocket(&self, open: OpenWebSocket) {
        self.websockets.borrow_mut().push(open);
        self.turn_queue.note_request();
    }

    /// A client asks for an event stream.
    pub fn open_event_stream(&self, open: OpenEventStream) {
        self.event_streams.borrow_mut().push(open);
        self.turn_queue.note_request();
    }

    /// Sessions of this worker, with the clients that ask for one.
    pub fn sessions(&self) -> usize {
        self.turn_queue.sessions()
            + self.websockets.borrow().len()
            + self.event_streams.borrow().len()
    }

    /// Hub: the clients that ask for a WebSocket.
    pub(super) fn take_websockets(&self) -> Vec<OpenWebSocket> {
        self.websockets.take()
    }

    /// Hub: the clients that ask for an event stream.
    pub(super) fn take_event_streams(&self) -> Vec<OpenEventStream> {
        self.event_streams.take()
    }
}
