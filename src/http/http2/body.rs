//! The body of a request over HTTP/2.
//!
//! It has two ends, as over HTTP/1. The connection holds the [`Feed`] and takes what has come out of `h2`, where each
//! frame costs memory that nobody counts; whoever wants the body holds the [`Http2Body`]. The client's window opens again
//! only as far as the body is taken.

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

/// Smaller pieces are copied: each would hold on to the block that it was read in.
const SMALL: usize = 4 << 10;

/// The end of the handler.
#[derive(Debug)]
pub(in crate::http) struct Http2Body {
    state: Rc<RefCell<State>>,
    /// Taken, for a reader that wants all of it. The reader counts it.
    buffer: BytesMut,
}

/// The end of the connection.
#[derive(Clone, Debug)]
pub(super) struct Feed(Rc<RefCell<State>>);

/// The end of the connection, for as long as one of the others is there.
#[derive(Debug)]
pub(super) struct WeakFeed(Weak<RefCell<State>>);

#[derive(Debug)]
struct State {
    stream: RecvStream,
    /// What has come and was not taken.
    pieces: Pieces,
    /// How it has ended, behind the pieces.
    end: Option<Result<(), BrokenBody>>,
    /// Somebody wants the body.
    is_requested: bool,
    /// Nobody wants it any more.
    is_dropped: bool,
    waker: Option<Waker>,
}

/// Pieces in their order, small ones put together.
#[derive(Debug, Default)]
struct Pieces {
    large: VecDeque<Bytes>,
    /// Behind the large ones.
    small: BytesMut,
    bytes: usize,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if piece.len() < SMALL {
            return self.small.extend_from_slice(&piece);
        }
        if !self.small.is_empty() {
            let small = std::mem::take(&mut self.small);
            self.large.push_back(small.freeze());
        }
        self.large.push_back(piece);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let small = || std::mem::take(&mut self.small).freeze();
        let piece = self.large.pop_front().unwrap_or_else(small);
        self.bytes -= piece.len();
        (!piece.is_empty()).then_some(piece)
    }
}

/// Makes both ends of the body that comes in this stream.
pub(super) fn pair(stream: RecvStream) -> (Feed, Http2Body) {
    let state = Rc::new(RefCell::new(State {
        stream,
        pieces: Pieces::default(),
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
    /// The next piece. None at the end.
    pub(in crate::http) fn poll_piece(
        &mut self,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenBody>>> {
        if !self.buffer.is_empty() {
            return Poll::Ready(Some(Ok(self.take())));
        }
        self.state.borrow_mut().poll_piece(task)
    }

    /// Waits until so much of the body can be taken, or all the rest of it. True: it is the rest.
    pub(in crate::http) fn poll_fill(
        &mut self,
        capacity: usize,
        task: &mut Context<'_>,
    ) -> Poll<Result<bool, BrokenBody>> {
        let state = &mut *self.state.borrow_mut();
        while self.buffer.len() < capacity {
            match ready!(state.poll_piece(task)) {
                Some(Ok(piece)) if self.buffer.is_empty() => self.buffer = BytesMut::from(piece),
                Some(Ok(piece)) => self.buffer.extend_from_slice(&piece),
                Some(Err(broken)) => return Poll::Ready(Err(broken)),
                None => return Poll::Ready(Ok(true)),
            }
        }
        let is_rest = state.end == Some(Ok(())) && state.pieces.bytes == 0;
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
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        let state = &mut *self.state.borrow_mut();
        state.is_dropped = true;
        let left = std::mem::take(&mut state.pieces).bytes;
        state.release(left);
    }
}

impl State {
    fn poll_piece(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenBody>>> {
        self.is_requested = true;
        if let Some(piece) = self.pieces.pop() {
            self.release(piece.len());
            return Poll::Ready(Some(Ok(piece)));
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

    /// Lets the client send so much more.
    fn release(&mut self, bytes: usize) {
        // A stream that is gone has no window to open again.
        let _ = self.stream.flow_control().release_capacity(bytes);
    }

    /// Takes all that has come.
    fn take_in(&mut self) {
        // The connection looks here whenever it has read: `h2` need not wake it.
        let mut task = Context::from_waker(Waker::noop());
        let mut has_news = false;
        while self.end.is_none() {
            let Poll::Ready(next) = self.stream.poll_data(&mut task) else {
                break;
            };
            has_news = true;
            match next {
                Some(Ok(piece)) if self.is_dropped => self.release(piece.len()),
                Some(Ok(piece)) => self.pieces.push(piece),
                // The client has all that it wants to know, and does not send the rest (RFC 9113, 8.1).
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
    /// Somebody wants the body.
    pub(super) fn is_requested(&self) -> bool {
        self.0.borrow().is_requested
    }

    /// For the connection, which must not keep the stream alive.
    pub(super) fn downgrade(&self) -> WeakFeed {
        WeakFeed(Rc::downgrade(&self.0))
    }

    /// Waits, for a moment, until the client has sent the rest of a body that nobody wants. It may stop at once (RFC
    /// 9113, section 8.1), but many clients look at the response only when they have sent all, and some lose it when
    /// their stream is reset behind it.
    pub(super) async fn read_rest(&self) {
        let read = poll_fn(|task| {
            let state = &mut *self.0.borrow_mut();
            if state.end.is_some() {
                return Poll::Ready(());
            }
            state.waker = Some(task.waker().clone());
            Poll::Pending
        });
        // A client that is not done then has had the time to read.
        let _ = timeout(LINGERING_TIMEOUT, read).await;
    }
}

impl WeakFeed {
    /// Takes all that has come out of `h2`.
    pub(super) fn take_in(&self) {
        if let Some(state) = self.0.upgrade() {
            state.borrow_mut().take_in();
        }
    }

    /// Bytes that wait for the handler. None: there is nothing to look at any more.
    pub(super) fn waiting(&self) -> Option<usize> {
        let state = self.0.upgrade()?;
        let state = state.borrow();
        let is_over = state.end.is_some() && state.pieces.bytes == 0;
        (!is_over).then_some(state.pieces.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_order_and_small_ones_hold_no_blocks() {
        let mut pieces = Pieces::default();
        let block = Bytes::from(vec![b'x'; 2 * SMALL]);
        let mut expected = Vec::new();
        for len in [1, 2, SMALL, 3, SMALL + 1, SMALL, 5, 6] {
            pieces.push(block.slice(..len));
            expected.extend_from_slice(&block[..len]);
            assert_eq!(pieces.bytes, expected.len());
        }
        let mut lens = Vec::new();
        let mut all = Vec::new();
        while let Some(piece) = pieces.pop() {
            lens.push(piece.len());
            all.extend_from_slice(&piece);
        }
        assert_eq!(lens, [3, SMALL, 3, SMALL + 1, SMALL, 11]);
        assert_eq!(all, expected);
        assert_eq!(pieces.bytes, 0);
        pieces.push(block.slice(..1));
        drop(pieces);
        assert!(block.try_into_mut().is_ok(), "a small piece is a copy");
    }
}
