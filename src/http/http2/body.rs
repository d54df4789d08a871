//! The body of an HTTP/2 request.
//!
//! It has two ends, as over HTTP/1. The connection owns the [`Feed`] and takes data out of `h2`, where each frame
//! costs memory that is not counted. The reader owns the [`Http2Body`]. The client's window opens only as far as
//! the reader takes the body.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream};
use tokio::time::timeout;

use crate::http::body_error::BrokenBody;
use crate::http::lingering_close::LINGERING_TIMEOUT;

/// Smaller chunks are copied, because each would keep the block alive that it was read into.
const SMALL: usize = 4 << 10;

/// The reader's end of a body.
#[derive(Debug)]
pub(in crate::http) struct Http2Body {
    state: Rc<RefCell<State>>,
    /// Taken for a reader that wants the whole body. The reader accounts for it.
    buffer: BytesMut,
}

/// The connection's end of a body.
#[derive(Clone, Debug)]
pub(super) struct Feed(Rc<RefCell<State>>);

/// The connection's end, which does not keep the body alive.
#[derive(Debug)]
pub(super) struct WeakFeed(Weak<RefCell<State>>);

#[derive(Debug)]
struct State {
    stream: RecvStream,
    /// Chunks that the reader has not taken.
    chunks: ChunkQueue,
    /// The end of the body, which follows the chunks.
    end: Option<Result<(), BrokenBody>>,
    /// The reader has requested the body.
    is_requested: bool,
    /// The reader has dropped its end.
    is_dropped: bool,
    waker: Option<Waker>,
}

/// Chunks in their order, with small ones joined.
#[derive(Debug, Default)]
struct ChunkQueue {
    large: VecDeque<Bytes>,
    /// The chunk after the large ones.
    small: BytesMut,
    bytes: usize,
}

impl ChunkQueue {
    fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if chunk.len() < SMALL {
            return self.small.extend_from_slice(&chunk);
        }
        if !self.small.is_empty() {
            let small = std::mem::take(&mut self.small);
            self.large.push_back(small.freeze());
        }
        self.large.push_back(chunk);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let small = || std::mem::take(&mut self.small).freeze();
        let chunk = self.large.pop_front().unwrap_or_else(small);
        self.bytes -= chunk.len();
        (!chunk.is_empty()).then_some(chunk)
    }
}

/// Makes both ends of the body that arrives in this stream.
pub(super) fn pair(stream: RecvStream) -> (Feed, Http2Body) {
    let state = Rc::new(RefCell::new(State {
        stream,
        chunks: ChunkQueue::default(),
        end: None,
        is_requested: false,
        is_dropped: false,
        waker: None,
    }));
    let body = Http2Body {
        state: Rc::clone(&state),
        buffer: BytesMut::new(),
    };
    (Feed(state), body)
}

impl Http2Body {
    /// The next chunk. None at the end.
    pub(in crate::http) fn poll_chunk(
        &mut self,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenBody>>> {
        if !self.buffer.is_empty() {
            return Poll::Ready(Some(Ok(self.take())));
        }
        self.state.borrow_mut().poll_chunk(task)
    }

    /// Waits until `capacity` bytes of the body can be taken, or all the rest of it. True: it is the rest.
    pub(in crate::http) fn poll_fill(
        &mut self,
        capacity: usize,
        task: &mut Context<'_>,
    ) -> Poll<Result<bool, BrokenBody>> {
        let state = &mut *self.state.borrow_mut();
        while self.buffer.len() < capacity {
            match ready!(state.poll_chunk(task)) {
                Some(Ok(chunk)) if self.buffer.is_empty() => self.buffer = BytesMut::from(chunk),
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(broken)) => return Poll::Ready(Err(broken)),
                None => return Poll::Ready(Ok(true)),
            }
        }
        let is_rest = state.end == Some(Ok(())) && state.chunks.bytes == 0;
        Poll::Ready(Ok(is_rest))
    }

    /// Bytes that can be taken.
    pub(in crate::http) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the bytes that have been read.
    pub(in crate::http) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.buffer).freeze()
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        let state = &mut *self.state.borrow_mut();
        state.is_dropped = true;
        let left = std::mem::take(&mut state.chunks).bytes;
        state.release(left);
    }
}

impl State {
    fn poll_chunk(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenBody>>> {
        self.is_requested = true;
        if let Some(chunk) = self.chunks.pop() {
            self.release(chunk.len());
            return Poll::Ready(Some(Ok(chunk)));
        }
        match self.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(broken)) => Poll::Ready(Some(Err(broken))),
            None => {
                self.waker = Some(task.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Lets the client send this many bytes more.
    fn release(&mut self, bytes: usize) {
        // A stream that is closed has no window.
        let _ = self.stream.flow_control().release_capacity(bytes);
    }

    /// Takes all data out of `h2`.
    fn take_in(&mut self) {
        // The connection calls this after each read, so `h2` need not wake it.
        let mut task = Context::from_waker(Waker::noop());
        let mut has_news = false;
        while self.end.is_none() {
            let Poll::Ready(next) = self.stream.poll_data(&mut task) else {
                break;
            };
            has_news = true;
            match next {
                Some(Ok(chunk)) if self.is_dropped => self.release(chunk.len()),
                Some(Ok(chunk)) => self.chunks.push(chunk),
                // The client needs no further data, and does not send the rest (RFC 9113, section 8.1).
                Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                    self.end = Some(Ok(()));
                }
                Some(Err(_)) => self.end = Some(Err(BrokenBody)),
                None => self.end = Some(Ok(())),
            }
        }
        if has_news && let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Feed {
    /// Whether the reader has requested the body.
    pub(super) fn is_requested(&self) -> bool {
        self.0.borrow().is_requested
    }

    /// A handle for the connection that does not keep the stream alive.
    pub(super) fn downgrade(&self) -> WeakFeed {
        WeakFeed(Rc::downgrade(&self.0))
    }

    /// Waits a while until the client has sent the rest of a body without a reader. The client may stop at once
    /// (RFC 9113, section 8.1). But many clients read the response only after they have sent everything, and some
    /// lose it when their stream is reset.
    pub(super) async fn read_rest(&self) {
        let read = poll_fn(|task| {
            let state = &mut *self.0.borrow_mut();
            if state.end.is_some() {
                return Poll::Ready(());
            }
            state.waker = Some(task.waker().clone());
            Poll::Pending
        });
        // A client that is still sending after that has had the time to read.
        let _ = timeout(LINGERING_TIMEOUT, read).await;
    }
}

impl WeakFeed {
    /// Takes all data out of `h2`.
    pub(super) fn take_in(&self) {
        if let Some(state) = self.0.upgrade() {
            state.borrow_mut().take_in();
        }
    }

    /// Bytes that wait for the reader. None: the body has ended.
    pub(super) fn waiting(&self) -> Option<usize> {
        let state = self.0.upgrade()?;
        let state = state.borrow();
        let is_over = state.end.is_some() && state.chunks.bytes == 0;
        (!is_over).then_some(state.chunks.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_queue_keeps_the_order_and_copies_small_chunks() {
        let mut chunks = ChunkQueue::default();
        let block = Bytes::from(vec![b'x'; 2 * SMALL]);
        let mut expected = Vec::new();
        for len in [1, 2, SMALL, 3, SMALL + 1, SMALL, 5, 6] {
            chunks.push(block.slice(..len));
            expected.extend_from_slice(&block[..len]);
            assert_eq!(chunks.bytes, expected.len());
        }
        let mut lens = Vec::new();
        let mut all = Vec::new();
        while let Some(chunk) = chunks.pop() {
            lens.push(chunk.len());
            all.extend_from_slice(&chunk);
        }
        assert_eq!(lens, [3, SMALL, 3, SMALL + 1, SMALL, 11]);
        assert_eq!(all, expected);
        assert_eq!(chunks.bytes, 0);
        chunks.push(block.slice(..1));
        drop(chunks);
        assert!(block.try_into_mut().is_ok(), "a small chunk is a copy");
    }
}
