//! The event stream that user code returns as the body of a response: its topic, its history and its end.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use bytes::Bytes;

use crate::actors::limits::Limits;
use crate::actors::topic::Topic;

/// The event stream that a client gets.
#[derive(Clone, Debug)]
pub struct EventStream {
    /// The topic whose messages are sent.
    pub topic: Topic,
    /// The number of earlier messages that a new client gets.
    pub last: Option<usize>,
    /// The last event that the client received, unless it sends `Last-Event-ID`.
    pub last_event_id: Option<String>,
    /// The time after which a disconnected client reconnects, in milliseconds.
    pub retry_ms: u64,
    /// Of these limits an event stream has the ping interval, the queue size and the number of streams. The
    /// time-out for a client that takes nothing is that of any response.
    pub limits: Limits,
    /// The handle that ends the stream.
    pub end: Arc<StreamEnd>,
}

/// The end of an event stream, which user code sets from any thread.
#[derive(Debug, Default)]
pub struct StreamEnd {
    /// The event that is sent last. Empty: none.
    last: OnceLock<Bytes>,
    waker: AtomicWaker,
}

impl StreamEnd {
    /// Ends the stream after the queued messages and this event. Only the first call counts.
    pub fn set(&self, last: Bytes) {
        if self.last.set(last).is_ok() {
            self.waker.wake();
        }
    }

    pub(super) fn poll(&self, task: &mut Context<'_>) -> Poll<Bytes> {
        // First the waker, then the value: an end that is set in between is either seen, or wakes the task.
        self.waker.register(task.waker());
        self.last
            .get()
            .map_or(Poll::Pending, |last| Poll::Ready(last.clone()))
    }
}
