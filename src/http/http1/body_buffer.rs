//! The buffer of an HTTP/1 request body: decoded bytes that the reader has not taken, and the number of bytes to
//! come.

use std::task::{Context, Poll, Waker};

use bytes::BytesMut;

use super::chunked::Decoder;
use super::fields::Framing;
use crate::http::body_error::BrokenBody;
use crate::http::limits::BODY_AHEAD_BYTES;

#[derive(Debug)]
pub(super) struct BodyBuffer {
    pub(super) remaining: Remaining,
    /// Decoded bytes that the reader has not taken.
    pub(super) buffer: BytesMut,
    /// Reading pauses when `buffer` holds this many bytes.
    pub(super) capacity: usize,
    /// The reader has requested the body.
    pub(super) is_requested: bool,
    /// The reader has dropped its end.
    pub(super) is_dropped: bool,
    pub(super) is_broken: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) enum Remaining {
    Length(u64),
    Chunks(Box<Decoder>),
}

impl Remaining {
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunks(decoder) => decoder.is_done(),
        }
    }
}

impl BodyBuffer {
    /// None for a request without a body.
    pub(super) fn new(framing: Framing) -> Option<Self> {
        let remaining = match framing {
            Framing::Empty => return None,
            Framing::Length(length) => Remaining::Length(length),
            Framing::Chunked => Remaining::Chunks(Box::default()),
        };
        Some(Self {
            remaining,
            buffer: BytesMut::new(),
            capacity: BODY_AHEAD_BYTES,
            is_requested: false,
            is_dropped: false,
            is_broken: false,
            waker: None,
        })
    }

    /// Waits for the end of the body.
    pub(super) fn poll_end(&mut self, task: &mut Context<'_>) -> Poll<Result<(), BrokenBody>> {
        self.is_requested = true;
        if self.is_broken {
            return Poll::Ready(Err(BrokenBody));
        }
        if self.remaining.is_nothing() {
            return Poll::Ready(Ok(()));
        }
        self.waker = Some(task.waker().clone());
        Poll::Pending
    }

    pub(super) fn fail(&mut self) {
        self.is_broken = true;
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Bytes that still fit into the buffer.
    pub(super) fn free(&self) -> usize {
        self.capacity.saturating_sub(self.buffer.len())
    }

    /// Decodes input of the connection. Returns how many bytes were used.
    pub(super) fn feed(&mut self, input: &[u8]) -> usize {
        let free = self.free();
        let used = match &mut self.remaining {
            Remaining::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let used = input.len().min(free).min(most);
                self.buffer.extend_from_slice(&input[..used]);
                *left -= used as u64;
                used
            }
            Remaining::Chunks(decoder) => {
                let used = decoder.decode(input, &mut self.buffer, free);
                used.unwrap_or_else(|_| {
                    self.fail();
                    0
                })
            }
        };
        if used > 0 {
            self.wake();
        }
        used
    }
}
