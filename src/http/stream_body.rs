//! The body of a response that user code produces while it is sent.
//!
//! The producer, on another thread, puts chunks into a queue that reports when it is full. The connection takes
//! them out. A [`BodyWatcher`] is notified when the queue has capacity again, and once when the body is closed,
//! however the connection ends.
//!
//! A plain HTTP/1 connection that has sent all chunks lends its writer to the producer. Then large chunks go to the
//! socket without a switch of threads.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use actix_http::body::{BodySize, MessageBody};
use bytes::Bytes;

use super::http1::direct::DirectWriter;
use crate::actors::frame::LARGE_BYTES;

/// Bytes that may wait for the client before the producer must wait.
pub const MAX_QUEUED_BYTES: usize = 128 << 10;

/// Time for which a producer may write to a fast client before other work on its thread has its turn.
const TURN: Duration = Duration::from_millis(1);

/// The notifications about a body. They are called on the I/O thread, and must not block.
pub trait BodyWatcher: Send + Sync {
    /// The queue has capacity again.
    fn send_ready(&self);
    /// The body is closed: all was sent, or the client has disconnected.
    fn closed(&self);
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    /// Bytes of the chunks in the queue, and of those that the connection has taken and not sent yet.
    bytes: usize,
    /// Bytes of the latter alone.
    taken: usize,
    end: End,
    /// The producer waits for capacity.
    producer_waits: bool,
    waker: Option<Waker>,
    /// The writer of the connection, while the connection has nothing to write.
    writer: Option<DirectWriter>,
    /// The start of the producer's turn.
    turn: Option<Instant>,
}

#[derive(Copy, Clone, Default, PartialEq, Eq)]
enum End {
    /// More chunks may come.
    #[default]
    Open,
    /// The chunks in the queue are the last ones.
    Finished,
    /// The producer failed: the client must see that the body is incomplete.
    Failed,
    /// The connection takes no more chunks.
    Closed,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The producer's end of a stream. It works on any thread.
pub struct StreamSender(Arc<Mutex<Queue>>);

/// The connection's end of a stream.
pub struct StreamBody {
    queue: Arc<Mutex<Queue>>,
    watcher: Box<dyn BodyWatcher>,
}

/// Makes both ends of a stream.
pub fn stream_body(watcher: Box<dyn BodyWatcher>) -> (StreamSender, StreamBody) {
    let queue = Arc::default();
    let sender = StreamSender(Arc::clone(&queue));
    (sender, StreamBody { queue, watcher })
}

impl StreamSender {
    /// Adds a chunk; `hold` makes an owned copy of it. False: the producer must stop, because it must wait for
    /// [`BodyWatcher::send_ready`], has used up its turn, or the body is closed.
    pub fn write(&self, chunk: &[u8], hold: impl FnOnce() -> Bytes) -> bool {
        let mut guard = lock(&self.0);
        let queue = &mut *guard;
        if queue.end != End::Open {
            return false;
        }
        if chunk.is_empty() {
            return !queue.producer_waits;
        }
        let is_next = queue.chunks.is_empty() && !queue.producer_waits;
        let is_direct = is_next && chunk.len() >= LARGE_BYTES;
        if let Some(writer) = queue.writer.as_mut().filter(|_| is_direct) {
            if writer.write(chunk, hold) {
                return queue.has_turn();
            }
            queue.producer_waits = true;
        } else {
            queue.bytes += chunk.len();
            queue.chunks.push_back(hold());
            queue.producer_waits |= queue.bytes >= MAX_QUEUED_BYTES;
        }
        let goes_on = !queue.producer_waits;
        let waker = queue.waker.take();
        drop(guard);
        // After the lock is released, because the connection takes it when it wakes.
        if let Some(waker) = waker {
            waker.wake();
        }
        goes_on
    }

    /// Whether the producer must wait.
    pub fn is_full(&self) -> bool {
        let queue = lock(&self.0);
        queue.producer_waits && queue.end == End::Open
    }

    /// Whether the connection takes no more chunks.
    pub fn is_closed(&self) -> bool {
        lock(&self.0).end == End::Closed
    }

    /// Ends the body. `failed`: the body is incomplete.
    pub fn end(&self, failed: bool) {
        let waker = {
            let queue = &mut *lock(&self.0);
            if queue.end != End::Open {
                return;
            }
            queue.end = if failed { End::Failed } else { End::Finished };
            queue.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for StreamSender {
    /// A producer that is dropped before the end has failed.
    fn drop(&mut self) {
        self.end(true);
    }
}

impl Queue {
    /// Whether the producer may write more in its turn. A new turn needs a pause for other work.
    fn has_turn(&mut self) -> bool {
        let is_over = self.turn.get_or_insert_with(Instant::now).elapsed() >= TURN;
        if is_over {
            self.turn = None;
        }
        !is_over
    }
}

impl StreamBody {
    /// The next chunk. It counts as queued until [`StreamBody::mark_sent`] is called.
    pub(super) fn poll_chunk(&self, task: &Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let queue = &mut *lock(&self.queue);
        if let Some(chunk) = queue.chunks.pop_front() {
            queue.taken += chunk.len();
            return Poll::Ready(Some(Ok(chunk)));
        }
        match queue.end {
            End::Open => {
                queue.waker = Some(task.waker().clone());
                Poll::Pending
            }
            End::Finished | End::Closed => Poll::Ready(None),
            End::Failed => Poll::Ready(Some(Err(io::Error::other(
                "the handler failed in the middle of its response",
            )))),
        }
    }

    /// All chunks that were taken are sent: the producer may continue, with that writer. The connection reclaims
    /// the writer before it writes again, and drops this body before it closes its socket.
    pub(super) fn mark_sent(&self, writer: Option<DirectWriter>) {
        let may_resume = {
            let queue = &mut *lock(&self.queue);
            queue.bytes -= mem::take(&mut queue.taken);
            // Other chunks have arrived meanwhile, and have woken the connection.
            if !queue.chunks.is_empty() {
                return;
            }
            queue.writer = writer;
            queue.turn = None;
            mem::take(&mut queue.producer_waits)
        };
        if may_resume {
            self.watcher.send_ready();
        }
    }

    /// Takes the writer back from the producer.
    pub(super) fn reclaim_writer(&self) -> Option<DirectWriter> {
        lock(&self.queue).writer.take()
    }
}

/// The body for readers that do not report when a chunk is sent: a compressor, and HTTP/2, which takes one chunk at
/// a time.
impl MessageBody for StreamBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let next = self.poll_chunk(task);
        if next.is_pending() {
            // A producer that is woken makes several chunks.
            self.mark_sent(None);
        }
        next
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let chunks = {
            let queue = &mut *lock(&self.queue);
            queue.end = End::Closed;
            queue.bytes = 0;
            queue.writer = None;
            mem::take(&mut queue.chunks)
        };
        drop(chunks);
        self.watcher.closed();
    }
}

impl fmt::Debug for StreamBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StreamBody").finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamSender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StreamSender")
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;

    use super::*;
    use crate::http::http1::output::Output;
    use crate::http::tcp::tests::pair;

    #[derive(Default)]
    struct Calls {
        send_ready: AtomicUsize,
        closed: AtomicUsize,
    }

    struct TestWatcher(Arc<Calls>);

    impl BodyWatcher for TestWatcher {
        fn send_ready(&self) {
            self.0.send_ready.fetch_add(1, SeqCst);
        }

        fn closed(&self) {
            self.0.closed.fetch_add(1, SeqCst);
        }
    }

    fn pair_with_calls() -> (StreamSender, StreamBody, Arc<Calls>) {
        let calls = Arc::new(Calls::default());
        let (sender, body) = stream_body(Box::new(TestWatcher(Arc::clone(&calls))));
        (sender, body, calls)
    }

    fn write(sender: &StreamSender, chunk: &Bytes) -> bool {
        sender.write(chunk, || chunk.clone())
    }

    fn next(body: &mut StreamBody) -> Poll<Option<Result<Bytes, std::io::Error>>> {
        Pin::new(body).poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_producer_that_filled_the_queue_is_notified_once_when_the_queue_is_empty() {
        const CHUNK: Bytes = Bytes::from_static(&[0; MAX_QUEUED_BYTES / 4]);
        let (sender, mut body, calls) = pair_with_calls();
        for _ in 0..3 {
            assert!(write(&sender, &CHUNK));
        }
        assert!(!write(&sender, &CHUNK));
        assert!(sender.is_full());
        for _ in 0..4 {
            assert!(matches!(next(&mut body), Poll::Ready(Some(Ok(_)))));
            assert_eq!(calls.send_ready.load(SeqCst), 0);
        }
        for _ in 0..2 {
            assert!(next(&mut body).is_pending());
            assert_eq!(calls.send_ready.load(SeqCst), 1);
        }
        assert!(!sender.is_full());
    }

    /// Finds the body empty, and lends the producer a writer to that socket.
    fn lend(body: &StreamBody, socket: &TcpStream) {
        let task = Context::from_waker(Waker::noop());
        assert!(body.poll_chunk(&task).is_pending());
        body.mark_sent(Some(DirectWriter::new(socket, false, Output::default())));
    }

    const LARGE: Bytes = Bytes::from_static(&[7; LARGE_BYTES]);

    #[test]
    fn a_large_chunk_goes_directly_to_the_socket_if_the_queue_is_empty() {
        let (sender, body, _) = pair_with_calls();
        let (socket, mut client) = pair();
        lend(&body, &socket);
        assert!(write(&sender, &LARGE));
        let mut received = [0; LARGE_BYTES];
        client.read_exact(&mut received).expect("it has been sent");
        assert!(received == *LARGE);
        assert!(write(&sender, &Bytes::from_static(b"small")));
        assert!(write(&sender, &LARGE));
        assert!(
            body.reclaim_writer()
                .is_some_and(|writer| writer.into_output().is_empty())
        );
        let task = Context::from_waker(Waker::noop());
        for expected in [Bytes::from_static(b"small"), LARGE] {
            match body.poll_chunk(&task) {
                Poll::Ready(Some(Ok(chunk))) => assert_eq!(chunk, expected),
                other => panic!("{other:?}"),
            }
        }
        assert!(body.poll_chunk(&task).is_pending());
        assert!(
            write(&sender, &LARGE),
            "without a writer the chunk waits for the connection"
        );
        assert!(matches!(body.poll_chunk(&task), Poll::Ready(Some(Ok(_)))));
    }

    #[test]
    fn a_producer_waits_for_a_slow_client_until_all_is_sent() {
        let (sender, body, calls) = pair_with_calls();
        let (socket, _client) = pair();
        lend(&body, &socket);
        while !sender.is_full() {
            write(&sender, &LARGE);
        }
        let writer = body.reclaim_writer().expect("it was lent");
        let rest = writer.into_output().take();
        assert!(
            (1..=LARGE_BYTES).contains(&rest.len()),
            "of one chunk, a part"
        );
        assert!(sender.is_full());
        assert_eq!(calls.send_ready.load(SeqCst), 0);
        lend(&body, &socket);
        assert!(!sender.is_full());
        assert_eq!(calls.send_ready.load(SeqCst), 1);
    }

    #[test]
    fn a_producer_with_a_fast_client_pauses_for_other_work() {
        let (sender, body, calls) = pair_with_calls();
        let (socket, client) = pair();
        let reader = thread::spawn(move || io::copy(&mut &client, &mut io::sink()));
        lend(&body, &socket);
        // A full socket is waited for: this test is about a fast client.
        while write(&sender, &LARGE) || sender.is_full() {
            if sender.is_full() {
                body.reclaim_writer();
                lend(&body, &socket);
            }
        }
        assert_eq!(calls.closed.load(SeqCst), 0);
        drop((sender, body, socket));
        reader
            .join()
            .expect("it only reads")
            .expect("until the end");
    }

    #[test]
    fn chunks_that_were_taken_and_not_sent_count_as_queued() {
        const HALF: Bytes = Bytes::from_static(&[0; MAX_QUEUED_BYTES / 2]);
        let (sender, body, calls) = pair_with_calls();
        let task = Context::from_waker(Waker::noop());
        assert!(write(&sender, &HALF));
        assert!(matches!(body.poll_chunk(&task), Poll::Ready(Some(Ok(_)))));
        assert!(!write(&sender, &HALF));
        assert!(matches!(body.poll_chunk(&task), Poll::Ready(Some(Ok(_)))));
        assert!(body.poll_chunk(&task).is_pending());
        assert!(sender.is_full());
        body.mark_sent(None);
        assert!(!sender.is_full());
        assert_eq!(calls.send_ready.load(SeqCst), 1);
    }

    #[test]
    fn a_watcher_is_notified_once_of_the_end() {
        let (sender, mut body, calls) = pair_with_calls();
        assert!(write(&sender, &Bytes::from_static(b"all")));
        sender.end(false);
        assert!(matches!(next(&mut body), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(next(&mut body), Poll::Ready(None)));
        drop(body);
        assert_eq!(calls.closed.load(SeqCst), 1);

        let (sender, body, calls) = pair_with_calls();
        drop(body);
        assert_eq!(calls.closed.load(SeqCst), 1);
        assert!(sender.is_closed() && !sender.is_full());
        assert!(!write(&sender, &Bytes::from_static(b"in vain")));
    }

    #[test]
    fn a_producer_that_is_dropped_has_failed() {
        let (sender, mut body, _) = pair_with_calls();
        write(&sender, &Bytes::from_static(b"some"));
        drop(sender);
        assert!(matches!(next(&mut body), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(next(&mut body), Poll::Ready(Some(Err(_)))));
    }
}
