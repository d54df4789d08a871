//! A response's body that user code makes while it is sent.
//!
//! The producer, on another thread, puts pieces into a queue that says when it is full; the connection
//! takes them out. Who is told when there is room again, and when nobody takes anything any more, is a
//! [`Watcher`]: it hears of the end exactly once, however the connection ends.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use actix_http::body::{BodySize, MessageBody};
use bytes::Bytes;

/// Bytes that may wait for the client before the producer is asked to wait. To wait takes as long as to send
/// 64 KiB, so several pieces of that size are made and sent at a time.
pub const FULL_BYTES: usize = 256 << 10;

/// Hears of the way of a body. Called on the I/O thread: no call may block.
pub trait Watcher: Send + Sync {
    /// There is room again.
    fn room(&self);
    /// Nobody takes anything any more: all was sent, or the client is gone.
    fn over(&self);
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    end: End,
    /// The producer waits for room.
    is_awaited: bool,
    waker: Option<Waker>,
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
    Over,
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The producer's end. Any thread.
pub struct Source(Arc<Mutex<Queue>>);

/// The connection's end.
pub struct Flow {
    queue: Arc<Mutex<Queue>>,
    watcher: Box<dyn Watcher>,
}

/// Makes both ends.
pub fn flow(watcher: Box<dyn Watcher>) -> (Source, Flow) {
    let queue = Arc::default();
    let source = Source(Arc::clone(&queue));
    (source, Flow { queue, watcher })
}

impl Source {
    /// Adds a piece. Returns false if the producer is to wait for [`Watcher::room`] before the next
    /// one, or if nobody takes anything any more.
    pub fn write(&self, piece: Bytes) -> bool {
        let (waker, is_full) = {
            let queue = &mut *lock(&self.0);
            if queue.end != End::Open {
                return false;
            }
            if !piece.is_empty() {
                queue.bytes += piece.len();
                queue.pieces.push_back(piece);
            }
            queue.is_awaited = queue.bytes >= FULL_BYTES;
            (queue.waker.take(), queue.is_awaited)
        };
        wake(waker);
        !is_full
    }

    /// Must the producer wait?
    pub fn is_full(&self) -> bool {
        let queue = lock(&self.0);
        queue.bytes >= FULL_BYTES && queue.end == End::Open
    }

    /// Nobody takes anything any more.
    pub fn is_over(&self) -> bool {
        lock(&self.0).end == End::Over
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
        wake(waker);
    }
}

impl Drop for Source {
    /// A producer that is forgotten has failed.
    fn drop(&mut self) {
        self.end(true);
    }
}

/// Wakes the connection, without the lock: it would run into that.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl MessageBody for Flow {
    type Error = std::io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let mut guard = lock(&self.queue);
        let queue = &mut *guard;
        let Some(piece) = queue.pieces.pop_front() else {
            return match queue.end {
                End::Open => {
                    queue.waker = Some(task.waker().clone());
                    // All of it has been taken, and sent unless a compressor has it: the producer makes several pieces when it
                    // is woken, and none for a client that does not read.
                    let has_room = mem::take(&mut queue.is_awaited);
                    drop(guard);
                    if has_room {
                        self.watcher.room();
                    }
                    Poll::Pending
                }
                End::Finished | End::Over => Poll::Ready(None),
                End::Failed => Poll::Ready(Some(Err(std::io::Error::other(
                    "the handler failed in the middle of its response",
                )))),
            };
        };
        queue.bytes -= piece.len();
        // Half empty, so that a producer makes more than one piece when it is woken.
        Poll::Ready(Some(Ok(piece)))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let pieces = {
            let queue = &mut *lock(&self.queue);
            queue.end = End::Over;
            queue.bytes = 0;
            mem::take(&mut queue.pieces)
        };
        drop(pieces);
        self.watcher.over();
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Flow").finish_non_exhaustive()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Source").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    #[derive(Default)]
    struct Heard {
        room: AtomicUsize,
        over: AtomicUsize,
    }

    struct Listener(Arc<Heard>);

    impl Watcher for Listener {
        fn room(&self) {
            self.0.room.fetch_add(1, SeqCst);
        }

        fn over(&self) {
            self.0.over.fetch_add(1, SeqCst);
        }
    }

    fn made() -> (Source, Flow, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        let (source, flow) = flow(Box::new(Listener(Arc::clone(&heard))));
        (source, flow, heard)
    }

    fn next(flow: &mut Flow) -> Poll<Option<Result<Bytes, std::io::Error>>> {
        Pin::new(flow).poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_producer_that_has_filled_it_hears_once_that_there_is_room_when_all_of_it_is_gone() {
        const PIECE: Bytes = Bytes::from_static(&[0; FULL_BYTES / 4]);
        let (source, mut flow, heard) = made();
        for _ in 0..3 {
            assert!(source.write(PIECE));
        }
        assert!(!source.write(PIECE));
        assert!(source.is_full());
        for _ in 0..4 {
            assert!(matches!(next(&mut flow), Poll::Ready(Some(Ok(_)))));
            assert_eq!(heard.room.load(SeqCst), 0);
        }
        assert!(!source.is_full());
        for _ in 0..2 {
            assert!(next(&mut flow).is_pending());
            assert_eq!(heard.room.load(SeqCst), 1);
        }
    }

    #[test]
    fn its_end_is_told_once_however_it_comes() {
        let (source, mut flow, heard) = made();
        assert!(source.write(Bytes::from_static(b"all")));
        source.end(false);
        assert!(matches!(next(&mut flow), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(next(&mut flow), Poll::Ready(None)));
        drop(flow);
        assert_eq!(heard.over.load(SeqCst), 1);

        let (source, flow, heard) = made();
        drop(flow);
        assert_eq!(heard.over.load(SeqCst), 1);
        assert!(source.is_over() && !source.is_full());
        assert!(!source.write(Bytes::from_static(b"in vain")));
    }

    #[test]
    fn a_maker_that_is_forgotten_has_failed() {
        let (source, mut flow, _) = made();
        source.write(Bytes::from_static(b"some"));
        drop(source);
        assert!(matches!(next(&mut flow), Poll::Ready(Some(Ok(_)))));
        assert!(matches!(next(&mut flow), Poll::Ready(Some(Err(_)))));
    }
}
