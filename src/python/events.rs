//! What happened on the I/O thread, for Python's event loop, in batches.

use crate::actors::arena::Arena;
use crate::actors::frame::Kind;
use crate::actors::link::Link;
use crate::actors::mailbox::{Batch, FdSignal, Mailbox};
use crate::actors::session_key::SessionKey;
use crate::http::handler::Call;
use crate::http::replies::ReplyKey;

use log::Level;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};

use std::mem;
use std::sync::Arc;

/// One thing that happened.
pub(super) enum Event {
    /// A request for an asynchronous handler.
    Request { call: Call, reply: ReplyKey },
    /// A client asks for a WebSocket.
    Connect {
        call: Call,
        session: SessionKey,
        link: Arc<Link>,
    },
    /// A session of a turbo route with hooks is open.
    Opened { call: Call, session: SessionKey },
    /// A message came; its bytes stand in the batch's arena.
    Message {
        session: SessionKey,
        kind: Kind,
        len: usize,
    },
    /// A large message came, in a block of its own.
    LargeMessage {
        session: SessionKey,
        kind: Kind,
        payload: Vec<u8>,
    },
    /// The bytes of an object are no longer used.
    Release { object: LentObject },
    /// A session is over.
    Closed {
        session: SessionKey,
        code: u16,
        reason: String,
    },
    /// A handler that waits may send again.
    Room { session: SessionKey },
    /// A streamed response has room again.
    StreamRoom { stream: StreamKey },
    /// Nobody takes anything of a streamed response any more.
    StreamOver { stream: StreamKey },
    /// A future has something to wake for.
    Wake { future: Py<PyAny> },
    /// Something for the log.
    Log { level: Level, line: String },
    /// The I/O thread has ended.
    Stopped,
}

/// Names a stream in its worker.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash)]
pub(super) struct StreamKey(pub u64);

/// An object of Python whose bytes Rust uses.
pub(super) enum LentObject {
    Bytes(PyBackedBytes),
    Text(PyBackedStr),
}

impl AsRef<[u8]> for LentObject {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
        }
    }
}

/// Events in their order, with the bytes of small messages in one arena.
#[derive(Default)]
pub(super) struct Events {
    pub arena: Arena<Event>,
    /// Bytes of the objects that are to be released.
    pub released: usize,
}

impl Events {
    pub(super) fn push(&mut self, event: Event) {
        self.arena.list.push(event);
    }

    /// Adds a small message, and copies its bytes into the arena.
    pub(super) fn push_message(&mut self, session: SessionKey, kind: Kind, payload: &[u8]) {
        self.arena.bytes.extend_from_slice(payload);
        self.push(Event::Message {
            session,
            kind,
            len: payload.len(),
        });
    }

    /// Moves everything to the end of `other`.
    pub(super) fn move_to(&mut self, other: &mut Self) {
        self.arena.move_to(&mut other.arena);
        other.released += mem::take(&mut self.released);
    }
}

impl Batch for Events {
    fn len(&self) -> usize {
        self.arena.len()
    }

    fn clear(&mut self) {
        self.arena.clear();
        self.released = 0;
    }
}

/// Events on their way to Python's event loop.
pub(super) type EventBox = Arc<Mailbox<Events, FdSignal>>;
