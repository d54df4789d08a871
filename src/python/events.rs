//! What happened on the I/O thread, for Python's event loop, in batches.

use super::held::Held;
use super::stream::StreamKey;
use crate::actors::frame::Kind;
use crate::actors::link::Link;
use crate::actors::mailbox::Batch;
use crate::actors::session_key::SessionKey;
use crate::http::handler::Call;
use crate::http::replies::ReplyKey;

use log::Level;
use pyo3::prelude::*;

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
    /// Nobody uses the bytes of an object any more.
    Release { held: Held },
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

/// Events in their order, with the bytes of small messages in one arena.
#[derive(Default)]
pub(super) struct Events {
    pub list: Vec<Event>,
    pub bytes: Vec<u8>,
    /// Bytes of the objects that are to be released.
    pub released: usize,
}

/// Bytes of messages whose memory a batch keeps.
const KEPT_BYTES: usize = 1 << 20;

impl Events {
    /// Moves everything to the end of `other`.
    pub(super) fn move_to(&mut self, other: &mut Self) {
        if other.list.is_empty() {
            mem::swap(self, other);
        } else {
            other.list.append(&mut self.list);
            other.bytes.append(&mut self.bytes);
            other.released += self.released;
        }
    }
}

impl Batch for Events {
    fn len(&self) -> usize {
        self.list.len()
    }

    fn clear(&mut self) {
        Batch::clear(&mut self.list);
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.released = 0;
    }
}
