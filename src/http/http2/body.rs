//! The body of a request over HTTP/2: the client's window opens as far as the body is taken.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use tokio::time::timeout;

use crate::http::farewell::LINGER;
use crate::http::incoming::Broken;

/// See the module's documentation.
#[derive(Debug)]
pub(in crate::http) struct Body {
    /// Until it is dropped.
    stream: Option<RecvStream>,
    /// Taken from the stream, and not taken from here yet.
    buffer: BytesMut,
    end: Rc<End>,
}

/// What the connection knows of the body of a request that it has answered.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The rest of a body that nobody read to its end.
    rest: RefCell<Option<RecvStream>>,
    /// Somebody wants the body.
    is_asked: Cell<bool>,
}

impl Body {
    /// The body that comes in `stream`, and what its connection sees of it.
    pub(super) fn new(stream: RecvStream) -> (Self, Rc<End>) {
        let end = Rc::<End>::default();
        let body = Self {
            stream: Some(stream),
            buffer: BytesMut::new(),
            end: Rc::clone(&end),
        };
        (body, end)
    }

    /// The next piece. None at the end.
    pub(in crate::http) fn poll_piece(
        &mut self,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Broken>>> {
        if !self.buffer.is_empty() {
            return Poll::Ready(Some(Ok(self.take())));
        }
        self.poll_chunk(task)
    }

    /// Waits until so much of the body can be taken, or all the rest of it. True: it is the rest.
    pub(in crate::http) fn poll_fill(
        &mut self,
        room: usize,
        task: &mut Context<'_>,
    ) -> Poll<Result<bool, Broken>> {
        while self.buffer.len() < room {
            match ready!(self.poll_chunk(task)) {
                Some(Ok(chunk)) if self.buffer.is_empty() => self.buffer = BytesMut::from(chunk),
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(broken)) => return Poll::Ready(Err(broken)),
                None => return Poll::Ready(Ok(true)),
            }
        }
        let is_rest = self.stream.as_ref().is_none_or(RecvStream::is_end_stream);
        Poll::Ready(Ok(is_rest))
    }

    /// Bytes that can be taken.
    pub(in crate::http) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// What can be taken.
    pub(in crate::http) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.buffer).freeze()
    }

    fn poll_chunk(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        self.end.is_asked.set(true);
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        match ready!(stream.poll_data(task)) {
            Some(Ok(chunk)) => {
                // A stream that is gone has no window to open again.
                let _ = stream.flow_control().release_capacity(chunk.len());
                Poll::Ready(Some(Ok(chunk)))
            }
            // The client has all that it wants to know, and does not send the rest (RFC 9113, 8.1).
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => Poll::Ready(None),
            Some(Err(_)) => Poll::Ready(Some(Err(Broken))),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let rest = self.stream.take().filter(|stream| !stream.is_end_stream());
        *self.end.rest.borrow_mut() = rest;
    }
}

impl End {
    /// Somebody wants the body.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked.get()
    }

    /// Reads what the client still sends of a body that nobody wants, for a moment. It may stop at once
    /// (RFC 9113, section 8.1), but many clients look at the response only when they have sent all, and
    /// some lose it when their stream is reset behind it.
    pub(super) async fn read_rest(&self) {
        let Some(mut stream) = self.rest.take() else {
            return;
        };
        let read = poll_fn(|task| {
            while let Some(Ok(chunk)) = ready!(stream.poll_data(task)) {
                // A stream that is gone has no window to open again.
                let _ = stream.flow_control().release_capacity(chunk.len());
            }
            Poll::Ready(())
        });
        // A client that is not done then has had the time to read.
        let _ = timeout(LINGER, read).await;
    }
}
