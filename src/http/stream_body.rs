//! A response's body that user code makes while it is sent.
//!
//! The producer, on another thread, puts pieces into a queue that says when it is full; the connection
//! takes them out. Who is told when there is room again, and when nobody takes anything any more, is a
//! [`BodyWatcher`]: it hears of the end exactly once, however the connection ends.
//!
//! A connection of HTTP/1 in clear text that has sent all pieces lends the producer what it writes with: then large
//! pieces go to the socket without the other thread.

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

/// Bytes that may wait for the client before the producer is asked to wait.
pub const MAX_QUEUED_BYTES: usize = 128 << 10;

/// For so long a producer may write to a client that takes everything, before others on its thread have their turn.
const TURN: Duration = Duration::from_millis(1);

/// Hears of the way of a body. Called on the I/O thread: no call may block.
pub trait BodyWatcher: Send + Sync {
    /// There is room again.
    fn send_ready(&self);
    /// Nobody takes anything any more: all was sent, or the client is gone.
    fn closed(&self);
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Bytes>,
    /// Of the pieces, and of those that the connection has taken and not sent yet.
    bytes: usize,
    /// The latter alone.
    taken: usize,
    end: End,
    /// The producer waits for room.
    producer_waits: bool,
    waker: Option<Waker>,
    /// What the connection writes with, while it has nothing to write.
    writer: Option<DirectWriter>,
    /// When the producer's turn began.
    turn: Option<Instant>,
}

#[derive(Copy, Clone, Default, PartialEq, Eq)]
enum End {
    /// More may come.
    #[default]
    Open,
    /// What is in the queue is the rest.
    Finished,
    /// The producer failed: the client must see that this is not all.
    Failed,
    /// Nobody takes anything.
    Closed,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The producer's end. Any thread.
pub struct StreamSender(Arc<Mutex<Queue>>);

/// The connection's end.
pub struct StreamBody {
    queue: Arc<Mutex<Queue>>,
    watcher: Box<dyn BodyWatcher>,
}

/// Makes both ends.
pub fn stream_body(watcher: Box<dyn BodyWatcher>) -> (StreamSender, StreamBody) {
    let queue = Arc::default();
    let sender = StreamSender(Arc::clone(&queue));
    (sender, StreamBody { queue, watcher })
}

impl StreamSender {
    /// Adds a piece; `hold` gives it as something that lasts. False: the producer is to wait for [`BodyWatcher::send_ready`] before the
    /// next one, or it has had its turn, or nobody takes anything any more.
    pub fn write(&self, piece: &[u8], hold: impl FnOnce() -> Bytes) -> bool {
        let mut guard = lock(&self.0);
        let queue = &mut *guard;
        if queue.end != End::Open {
            return false;
        }
        if piece.is_empty() {
            return !queue.producer_waits;
        }
        let is_next = queue.pieces.is_empty() && !queue.producer_waits;
        let is_direct = is_next && piece.len() >= LARGE_BYTES;
        if let Some(writer) = queue.writer.as_mut().filter(|_| is_direct) {
            if writer.write(piece, hold) {
                return queue.has_turn();
            }
            queue.producer_waits = true;
        } else {
            queue.bytes += piece.len();
            queue.pieces.push_back(hold());
            queue.producer_waits |= queue.bytes >= MAX_QUEUED_BYTES;
        }
        let goes_on = !queue.producer_waits;
        let waker = queue.waker.take();
        drop(guard);
        // Without the lock: the connection would run into that.
        if let Some(waker) = waker {
            waker.wake();
        }
        goes_on
    }

    /// Must the producer wait?
    pub fn is_full(&self) -> bool {
        let queue = lock(&self.0);
        queue.producer_waits && queue.end == End::Open
    }

    /// Nobody takes anything any more.
    pub fn is_closed(&self) -> bool {
        lock(&self.0).end == End::Closed
    }

    /// Nothing more comes. `failed`: although more should have come.
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
    /// A producer that is forgotten has failed.
    fn drop(&mut self) {
        self.end(true);
    }
}

impl Queue {
    /// May the producer write on? Not without a pause for others.
    fn has_turn(&mut self) -> bool {
        let is_over = self.turn.get_or_insert_with(Instant::now).elapsed() >= TURN;
        if is_over {
            self.turn = None;
        }
        !is_over
    }
}

impl StreamBody {
    /// The next piece. It counts as waiting until [`StreamBody::mark_sent`] is called.
    pub(super) fn poll_piece(&self, task: &Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let queue = &mut *lock(&self.queue);
        if let Some(piece) = queue.pieces.pop_front() {
            queue.taken += piece.len();
            return Poll::Ready(Some(Ok(piece)));
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

    /// All pieces that were taken are sent: the producer may go on, with that writer. The connection takes it back before
    /// it writes again, and drops this before it closes its socket.
    pub(super) fn mark_sent(&self, writer: Option<DirectWriter>) {
        let may_resume = {
            let queue = &mut *lock(&self.queue);
            queue.bytes -= mem::take(&mut queue.taken);
            // Others have come meanwhile, and woken the connection.
            if !queue.pieces.is_empty() {
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

    /// Ends the right of the producer to write.
    pub(super) fn reclaim_writer(&self) -> Option<DirectWriter> {
        lock(&self.queue).writer.take()
    }
}

/// For those that do not say when a piece is sent: a compressor, and HTTP/2, which takes one piece at a time.
impl MessageBody for StreamBody {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let next = self.poll_piece(task);
        if next.is_pending() {
            // The producer makes several pieces when it is woken.
            self.mark_sent(None);
        }
        next
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let pieces = {
            let queue = &mut *lock(&self.queue);
            queue.end = End::Closed;
            queue.bytes = 0;
            queue.writer = None;
            mem::take(&mut queue.pieces)
        };
        drop(pieces);
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

    fn write(sender: &StreamSender, piece: &Bytes) -> bool {
        sender.write(piece, || piece.clone())
    }

    fn next(body: &mut StreamBody) -> Poll<Option<Result<Bytes, std::io::Error>>> {
        Pin::new(body).poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_producer_that_has_filled_it_hears_once_that_there_is_room_when_all_of_it_is_gone() {
        const PIECE: Bytes = Bytes::from_static(&[0; MAX_QUEUED_BYTES / 4]);
        let (sender, mut body, calls) = pair_with_calls();
        for _ in 0..3 {
            assert!(write(&sender, &PIECE));
        }
        assert!(!write(&sender, &PIECE));
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

    /// Has the body found empty, and the producer lent a writer to that socket.
    fn lend(body: &StreamBody, socket: &TcpStream) {
        let task = Context::from_waker(Waker::noop());
        assert!(body.poll_piece(&task).is_pending());
        body.mark_sent(Some(DirectWriter::new(socket, false, Output::default())));
    }

    const LARGE: Bytes = Bytes::from_static(&[7; LARGE_BYTES]);

    #[test]
    fn a_large_piece_goes_to_the_client_without_the_connection_if_nothing_waits_before_it() {
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
            match body.poll_piece(&task) {
                Poll::Ready(Some(Ok(piece))) => assert_eq!(piece, expected),
                other => panic!("{other:?}"),
            }
        }
        assert!(body.poll_piece(&task).is_pending());
        assert!(
            write(&sender, &LARGE),
            "without a writer it waits for the connection"
        );
        assert!(matches!(body.poll_piece(&task), Poll::Ready(Some(Ok(_)))));
    }

    #[test]
    fn a_producer_waits_for_a_client_that_takes_no_more_until_all_is_sent() {
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
            "of one piece, a part"
        );
        assert!(sender.is_full());
        assert_eq!(calls.send_ready.load(SeqCst), 0);
        lend(&body, &socket);
        assert!(!sender.is_full());
        assert_eq!(calls.send_ready.load(SeqCst), 1);
    }

    #[test]
    fn a_producer_whose_client_takes_everything_pauses_for_others() {
        let (sender, body, calls) = pair_with_calls();
        let (socket, client) = pair();
        let reader = thread::spawn(move || io::copy(&mut &client, &mut io::sink()));
        lend(&body, &socket);
        // A full socket is waited for: this is about a client that is quick.
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
    fn what_was_taken_and_not_sent_counts_as_waiting() {
        const HALF: Bytes = Bytes::from_static(&[0; MAX_QUEUED_BYTES / 2]);
        let (sender, body, calls) = pair_with_calls();
        let task = Context::from_waker(Waker::noop());
        assert!(write(&sender, &HALF));
        assert!(matches!(body.poll_piece(&task), Poll::Ready(Some(Ok(_)))));
        assert!(!write(&sender, &HALF));
        assert!(matches!(body.poll_piece(&task), Poll::Ready(Some(Ok(_)))));
        assert!(body.poll_piece(&task).is_pending());
        assert!(sender.is_full());
        body.mark_sent(None);
        assert!(!sender.is_full());
        assert_eq!(calls.send_ready.load(SeqCst), 1);
    }

    #[test]
    fn its_end_is_told_once_however_it_comes() {
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
    fn a_maker_that_is_forgotten_has_failed() {
        let (sender, mut body, _) = pair_with_calls();
        write(&sender, &Bytes::from_static(b"some"));
        drop(sender);
        assert!(matches!(next(&mut body), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(next(&mut body), Poll::Ready(Some(Err(_)))));
    }
}
