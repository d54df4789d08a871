//! The entries that wait in an outbox: frames, each with its source.

use bytes::Bytes;

use crate::actors::frame::FrameHeader;

#[derive(Debug)]
pub(super) struct Entry {
    /// The header of a large message, which is a frame of its own. `frame` is its payload.
    pub(super) header: Option<FrameHeader>,
    pub(super) frame: Bytes,
    pub(super) source: Source,
}

impl Entry {
    pub(super) fn new(frame: Bytes, source: Source) -> Self {
        let header = None;
        Self {
            header,
            frame,
            source,
        }
    }

    pub(super) fn header(&self) -> &[u8] {
        self.header.as_deref().unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.header().len() + self.frame.len()
    }
}

/// The source of a waiting frame. It decides whether the frame may be dropped.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// Published to the topic with this hash. A policy may drop it.
    Topic(u64),
    /// Sent by the session's handler, which counts its bytes. Never dropped while open.
    Handler,
    /// The same, from a topic's past: other queues may hold the same bytes.
    Past,
    /// The replay at the beginning of an event stream: other queues may hold the same bytes.
    Beginning,
    /// Close, echo: sent by the session itself. Never dropped while open.
    Session,
    /// Ping, pong: goes out in front of what waits. Never dropped while open.
    Control,
}

impl Source {
    /// Does the handler count its bytes?
    pub(in crate::actors) fn is_handlers(self) -> bool {
        matches!(self, Self::Handler | Self::Past)
    }

    /// Does no other queue hold the same bytes?
    pub(super) fn is_own(self) -> bool {
        !matches!(self, Self::Topic(_) | Self::Past | Self::Beginning)
    }
}

impl Entry {
    pub(super) fn own_bytes(&self) -> usize {
        if self.source.is_own() { self.len() } else { 0 }
    }
}

/// The cost of a waiting frame besides its bytes, so that many small ones are not free.
pub const FRAME_OVERHEAD: usize = 64;
