//! The body of an HTTP/1 request: read when it is requested, and no further than its capacity.
//!
//! It has two ends. The connection owns the [`Feed`] and reads from the socket. The reader owns the [`Http1Body`],
//! which may outlive the request. Nothing is read before the body is requested.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::body_buffer::{BodyBuffer, Remaining};
use super::fields::Framing;
use crate::http::body_error::BrokenBody;
use crate::http::limits::BODY_AHEAD_BYTES;

/// Bytes of the smallest read.
const READ: usize = 16 << 10;

/// The reader's end of a body.
#[derive(Debug)]
pub(in crate::http) struct Http1Body(Rc<RefCell<BodyBuffer>>);

/// The connection's end of a body.
#[derive(Debug)]
pub(super) struct Feed(Rc<RefCell<BodyBuffer>>);

/// The result of reading from the socket.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum ReadOutcome {
    /// More of the body has arrived, or it is broken.
    Progress,
    /// The client has closed its side, and has not sent everything.
    Closed,
}

/// Makes both ends. None for a request without a body.
pub(super) fn pair(framing: Framing) -> Option<(Feed, Http1Body)> {
    let state = Rc::new(RefCell::new(BodyBuffer::new(framing)?));
    Some((Feed(Rc::clone(&state)), Http1Body(state)))
}

impl Http1Body {
    /// The next chunk. None at the end.
    pub(in crate::http) fn poll_chunk(
        &mut self,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenBody>>> {
        let state = &mut *self.0.borrow_mut();
        state.capacity = BODY_AHEAD_BYTES;
        if !state.buffer.is_empty() {
            let chunk = std::mem::take(&mut state.buffer);
            return Poll::Ready(Some(Ok(chunk.freeze())));
        }
        match ready!(state.poll_end(task)) {
            Ok(()) => Poll::Ready(None),
            Err(broken) => Poll::Ready(Some(Err(broken))),
        }
    }

    /// Waits until `capacity` bytes of the body can be taken, or all the rest of it. True: it is the rest.
    pub(in crate::http) fn poll_fill(
        &mut self,
        capacity: usize,
        task: &mut Context<'_>,
    ) -> Poll<Result<bool, BrokenBody>> {
        let state = &mut *self.0.borrow_mut();
        state.capacity = capacity;
        if state.buffer.len() >= capacity && !state.remaining.is_nothing() {
            return Poll::Ready(Ok(false));
        }
        state.poll_end(task).map_ok(|()| true)
    }

    /// Bytes that can be taken.
    pub(in crate::http) fn waiting(&self) -> usize {
        self.0.borrow().buffer.len()
    }

    /// Takes the bytes that have been read.
    pub(in crate::http) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.0.borrow_mut().buffer).freeze()
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        let state = &mut *self.0.borrow_mut();
        state.is_dropped = true;
        state.buffer = BytesMut::new();
    }
}

impl Feed {
    /// Whether all of the body has arrived. Later input is not part of it.
    pub(super) fn is_over(&self) -> bool {
        self.0.borrow().remaining.is_nothing()
    }

    /// Whether the body is malformed. Then later input cannot be parsed either.
    pub(super) fn is_broken(&self) -> bool {
        self.0.borrow().is_broken
    }

    /// Bytes that are still to come, if their number is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self.0.borrow().remaining {
            Remaining::Length(left) => Some(left),
            Remaining::Chunks(_) => None,
        }
    }

    /// Whether the reader still has its end.
    pub(super) fn is_held(&self) -> bool {
        !self.0.borrow().is_dropped
    }

    /// Whether the reader waits for more, and there is capacity for it.
    pub(super) fn wants_more(&self) -> bool {
        let state = self.0.borrow();
        state.is_requested
            && !state.is_dropped
            && !state.is_broken
            && !state.remaining.is_nothing()
            && state.free() > 0
    }

    /// Ends the body early.
    pub(super) fn fail(&self) {
        self.0.borrow_mut().fail();
    }

    /// Takes bytes from the input of the connection. True if it took any, or found that they are malformed.
    pub(super) fn use_input(&self, input: &mut BytesMut) -> bool {
        let state = &mut *self.0.borrow_mut();
        let used = state.feed(input);
        input.advance(used);
        used > 0 || state.is_broken
    }

    /// Reads from the socket, into the body's own buffer if possible. `scratch` is borrowed for the call. Input
    /// after the body goes to `input`, which is empty.
    pub(super) fn poll_read(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        scratch: &mut [u8],
        input: &mut BytesMut,
        task: &mut Context<'_>,
    ) -> Poll<io::Result<ReadOutcome>> {
        let state = &mut *self.0.borrow_mut();
        let free = state.free();
        let count = match &mut state.remaining {
            Remaining::Length(left) => {
                let most = free.min(usize::try_from(*left).unwrap_or(usize::MAX));
                // Doubled each time, so that a length that is only announced takes no memory.
                if state.buffer.capacity() == state.buffer.len() {
                    let more = state.buffer.len().max(READ).min(most);
                    state.buffer.reserve(more);
                }
                let mut space = (&mut state.buffer).limit(most);
                let count = ready!(pin!(stream.read_buf(&mut space)).poll(task))?;
                *left -= count as u64;
                count
            }
            Remaining::Chunks(_) => {
                let count = ready!(poll_read(stream, scratch, task))?;
                let used = state.feed(&scratch[..count]);
                if !state.is_broken {
                    input.extend_from_slice(&scratch[used..count]);
                }
                count
            }
        };
        if count == 0 {
            state.fail();
            return Poll::Ready(Ok(ReadOutcome::Closed));
        }
        state.wake();
        Poll::Ready(Ok(ReadOutcome::Progress))
    }

    /// Discards bytes of a body without a reader. Returns how many of them belonged to it.
    pub(super) fn skip(&self, bytes: &[u8]) -> usize {
        let state = &mut *self.0.borrow_mut();
        let mut skipped = 0;
        // A buffer's worth at a time, so that memory stays bounded.
        loop {
            state.buffer.clear();
            state.capacity = BODY_AHEAD_BYTES;
            let used = state.feed(&bytes[skipped..]);
            skipped += used;
            if used == 0 || state.is_broken || skipped == bytes.len() {
                return skipped;
            }
        }
    }
}

impl Drop for Feed {
    /// The connection is closed, or continues with the next request.
    fn drop(&mut self) {
        let state = &mut *self.0.borrow_mut();
        if !state.remaining.is_nothing() {
            state.fail();
        }
    }
}

/// Reads once, into borrowed memory.
pub(super) fn poll_read(
    stream: &mut (impl AsyncRead + Unpin),
    scratch: &mut [u8],
    task: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut buffer = tokio::io::ReadBuf::new(scratch);
    ready!(Pin::new(stream).poll_read(task, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

/// A connection's end for the tests of other modules: `came` bytes have arrived, and are delivered on request.
#[cfg(test)]
pub(in crate::http) struct TestFeed {
    feed: Feed,
    came: RefCell<BytesMut>,
}

#[cfg(test)]
impl TestFeed {
    pub(in crate::http) fn new(len: u64, came: usize) -> (Self, Http1Body) {
        let (feed, stream) = pair(Framing::Length(len)).expect("a body");
        let came = RefCell::new(vec![b'x'; came].as_slice().into());
        (Self { feed, came }, stream)
    }

    pub(in crate::http) fn is_requested(&self) -> bool {
        self.feed.0.borrow().is_requested
    }

    /// Delivers bytes. False: no more have arrived, or are wanted.
    pub(in crate::http) fn bring(&self) -> bool {
        self.feed.wants_more() && self.feed.use_input(&mut self.came.borrow_mut())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn next(stream: &mut Http1Body) -> Poll<Option<Result<Bytes, BrokenBody>>> {
        stream.poll_chunk(&mut Context::from_waker(Waker::noop()))
    }

    fn read(feed: &Feed, mut socket: &[u8], input: &mut BytesMut) -> Poll<io::Result<ReadOutcome>> {
        let mut scratch = [0; 4096];
        let task = &mut Context::from_waker(Waker::noop());
        feed.poll_read(&mut socket, &mut scratch, input, task)
    }

    #[test]
    fn a_connection_reads_nothing_before_the_body_is_requested() {
        let (feed, mut stream) = pair(Framing::Length(5)).expect("a body");
        assert!(!feed.wants_more());
        assert!(next(&mut stream).is_pending());
        assert!(feed.wants_more());
        let mut input = BytesMut::from(&b"abcdeGET"[..]);
        assert!(feed.use_input(&mut input));
        assert_eq!(&input[..], b"GET");
        assert!(feed.is_over() && !feed.wants_more());
        assert_eq!(next(&mut stream), Poll::Ready(Some(Ok("abcde".into()))));
        assert_eq!(next(&mut stream), Poll::Ready(None));
        assert!(pair(Framing::Empty).is_none());
    }

    #[test]
    fn a_connection_reads_no_more_than_the_capacity() {
        for framing in [Framing::Length(1 << 20), Framing::Chunked] {
            let (feed, mut stream) = pair(framing).expect("a body");
            assert!(next(&mut stream).is_pending());
            let mut input = BytesMut::from(&b"100000\r\n"[..]);
            if framing == Framing::Chunked {
                assert!(feed.use_input(&mut input));
            }
            input.clear();
            while feed.wants_more() && input.is_empty() {
                assert!(read(&feed, &[b'x'; 4096], &mut input).is_ready());
            }
            assert_eq!(stream.waiting(), BODY_AHEAD_BYTES);
            assert!(matches!(next(&mut stream), Poll::Ready(Some(Ok(_)))));
            assert!(feed.wants_more() && stream.waiting() == 0);
        }
    }

    #[test]
    fn a_whole_body_of_known_length_is_one_block() {
        let (feed, mut stream) = pair(Framing::Length(200_000)).expect("a body");
        let task = &mut Context::from_waker(Waker::noop());
        assert!(stream.poll_fill(150_000, task).is_pending());
        let mut reads = 0;
        while feed.wants_more() {
            let read = read(&feed, &vec![b'x'; 1 << 20], &mut BytesMut::new());
            assert!(matches!(read, Poll::Ready(Ok(ReadOutcome::Progress))));
            reads += 1;
        }
        assert_eq!(stream.poll_fill(150_000, task), Poll::Ready(Ok(false)));
        assert!(stream.poll_fill(300_000, task).is_pending());
        while feed.wants_more() {
            assert!(read(&feed, &vec![b'x'; 1 << 20], &mut BytesMut::new()).is_ready());
            reads += 1;
        }
        assert_eq!(stream.poll_fill(300_000, task), Poll::Ready(Ok(true)));
        assert_eq!(stream.take().len(), 200_000);
        assert!(reads < 10, "{reads} reads");
        // The reader accounts for all of its memory.
        assert_eq!(feed.0.borrow().buffer.capacity(), 0);
    }

    #[test]
    fn a_body_that_ends_early_or_is_malformed_is_broken_for_good() {
        let (feed, mut stream) = pair(Framing::Length(5)).expect("a body");
        assert!(next(&mut stream).is_pending());
        let end = read(&feed, b"", &mut BytesMut::new());
        assert!(matches!(end, Poll::Ready(Ok(ReadOutcome::Closed))));
        assert_eq!(next(&mut stream), Poll::Ready(Some(Err(BrokenBody))));

        let (feed, mut stream) = pair(Framing::Chunked).expect("a body");
        assert!(next(&mut stream).is_pending());
        assert!(feed.use_input(&mut BytesMut::from(&b"nonsense"[..])));
        assert!(feed.is_broken() && !feed.wants_more());
        assert_eq!(next(&mut stream), Poll::Ready(Some(Err(BrokenBody))));

        let (feed, mut stream) = pair(Framing::Chunked).expect("a body");
        drop(feed);
        assert_eq!(next(&mut stream), Poll::Ready(Some(Err(BrokenBody))));
    }

    #[test]
    fn a_body_without_a_reader_is_skipped() {
        let (feed, stream) = pair(Framing::Chunked).expect("a body");
        drop(stream);
        let mut body = b"20000\r\n".to_vec();
        body.resize(7 + 0x20000, b'x');
        body.extend_from_slice(b"\r\n0\r\n\r\nGET");
        assert_eq!(feed.skip(&body), body.len() - 3);
        assert!(feed.is_over());
    }
}
