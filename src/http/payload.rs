//! The payload of a request: its body, as the connection of either version of HTTP delivers it.

use std::task::{Context, Poll};

use bytes::Bytes;

use super::body_error::BodyError;
use super::http1::body::Http1Body;
use super::http2::body::Http2Body;

/// The body of a request, by version of HTTP.
#[derive(Debug)]
pub(super) enum Payload {
    /// There is none.
    Empty,
    /// A body over HTTP/1.
    Http1(Http1Body),
    /// A body over HTTP/2.
    Http2(Http2Body),
}

impl Payload {
    /// The next chunk. None at the end.
    pub(super) fn poll_chunk(
        &mut self,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Http1(body) => body.poll_chunk(task).map_err(BodyError::from),
            Self::Http2(body) => body.poll_chunk(task).map_err(BodyError::from),
        }
    }

    /// Waits until `capacity` bytes can be taken, or the rest of the body. True: it is the rest.
    pub(super) fn poll_fill(
        &mut self,
        capacity: usize,
        task: &mut Context<'_>,
    ) -> Poll<Result<bool, BodyError>> {
        match self {
            Self::Empty => Poll::Ready(Ok(true)),
            Self::Http1(body) => body.poll_fill(capacity, task).map_err(BodyError::from),
            Self::Http2(body) => body.poll_fill(capacity, task).map_err(BodyError::from),
        }
    }

    /// Bytes that can be taken.
    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Http1(body) => body.waiting(),
            Self::Http2(body) => body.waiting(),
        }
    }

    /// Takes the bytes that have been read.
    pub(super) fn take(&mut self) -> Bytes {
        match self {
            Self::Empty => Bytes::new(),
            Self::Http1(body) => body.take(),
            Self::Http2(body) => body.take(),
        }
    }
}
