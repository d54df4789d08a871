//! A request's body as it comes: within its limit, and in time.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_http::error::PayloadError;
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Why a body is not taken.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// It is larger than its limit.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// The bodies of its connection take all the memory that a connection may have.
    Crowded,
    /// It ended early, or is malformed.
    Broken,
}

/// A request's share in what its connection's bodies hold; among the request's extensions.
#[derive(Clone)]
pub(super) struct Share(Rc<dyn Fn(usize)>);

impl Share {
    /// `release` is told of bytes that are not held any more.
    pub(super) fn new(release: impl Fn(usize) + 'static) -> Self {
        Self(Rc::new(release))
    }

    /// So many bytes have gone elsewhere before the request is answered.
    pub(super) fn release(&self, bytes: usize) {
        (self.0)(bytes);
    }
}

/// What the time and the size of a body are held to.
#[derive(Copy, Clone, Debug)]
pub(super) struct Bounds {
    /// Bytes that it may have.
    pub bytes: usize,
    /// The time that it has in any case.
    pub time: Duration,
    /// Bytes for each of which it has more time: a body that comes steadily is not too slow.
    pub bytes_per_second: usize,
}

/// See the module's documentation. A stream, for who takes it apart while it comes.
pub(super) struct Incoming {
    payload: Payload,
    bounds: Bounds,
    received: usize,
    began: Instant,
    /// None as long as there was nothing to wait for.
    waiting: Option<Pin<Box<Sleep>>>,
    why: Rc<Cell<Option<Refusal>>>,
}

impl Incoming {
    pub(super) fn new(payload: Payload, bounds: Bounds) -> Self {
        Self {
            payload,
            bounds,
            received: 0,
            began: Instant::now(),
            waiting: None,
            why: Rc::default(),
        }
    }

    /// Why the stream has ended with an error: what takes it apart may have given it another name.
    pub(super) fn why(&self) -> Rc<Cell<Option<Refusal>>> {
        Rc::clone(&self.why)
    }

    /// All of it.
    pub(super) async fn whole(mut self) -> Result<Bytes, Refusal> {
        let why = self.why();
        let refused = |_| why.get().unwrap_or(Refusal::Broken);
        let mut next = async || poll_fn(|task| Pin::new(&mut self).poll_next(task)).await;
        let Some(first) = next().await.transpose().map_err(refused)? else {
            return Ok(Bytes::new());
        };
        let Some(second) = next().await.transpose().map_err(refused)? else {
            return Ok(first); // as it was read: most bodies come in one piece
        };
        let mut all = BytesMut::with_capacity(2 * (first.len() + second.len()));
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(more) = next().await.transpose().map_err(refused)? {
            all.extend_from_slice(&more);
        }
        Ok(all.freeze())
    }

    fn refuse(&self, why: Refusal) -> Poll<Option<Result<Bytes, PayloadError>>> {
        self.why.set(Some(why));
        Poll::Ready(Some(Err(PayloadError::Incomplete(None))))
    }

    fn deadline(&self) -> Instant {
        let more = self.received as f64 / self.bounds.bytes_per_second as f64;
        self.began + self.bounds.time + Duration::from_secs_f64(more)
    }
}

impl Stream for Incoming {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match Pin::new(&mut self.payload).poll_next(task) {
            Poll::Ready(Some(Ok(piece))) => {
                self.received = self.received.saturating_add(piece.len());
                if self.received > self.bounds.bytes {
                    return self.refuse(Refusal::TooLarge);
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(PayloadError::Overflow))) => self.refuse(Refusal::Crowded),
            Poll::Ready(Some(Err(_))) => self.refuse(Refusal::Broken),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let deadline = self.deadline();
                let waiting = self
                    .waiting
                    .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                loop {
                    ready!(waiting.as_mut().poll(task));
                    // What came since has moved it.
                    if waiting.deadline() >= deadline {
                        break;
                    }
                    waiting.as_mut().reset(deadline);
                }
                self.refuse(Refusal::TooSlow)
            }
        }
    }
}
