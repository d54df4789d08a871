//! The event stream that user code returns as the body of a response: its topic, its history and its end.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use bytes::Bytes;

use crate::actors::limits::Limits;
use crate::actors::topic::Topic;

/// What user code wants a client to get.
#[derive(Clone, Debug)]
pub struct EventStream {
    /// What is published to this topic.
    pub topic: Topic,
    /// So many of its newest messages before, for a client that is new.
    pub last: Option<usize>,
    /// What the client has had, if it does not say so itself in `Last-Event-ID`.
    pub last_event_id: Option<String>,
    /// How long the client waits before it comes back, in milliseconds.
    pub retry_ms: u64,
    /// Of these: the interval of pings, the bytes that may wait, and how many streams there may be. What
    /// a client takes is known to its connection, whose limit on that is any response's.
    pub limits: Limits,
    /// Ends it.
    pub end: Arc<StreamEnd>,
}

/// The end of an event stream, which user code sets from any thread.
#[derive(Debug, Default)]
pub struct StreamEnd {
    /// The event that is sent last, if any: empty without one.
    last: OnceLock<Bytes>,
    waker: AtomicWaker,
}

impl StreamEnd {
    /// Ends the stream behind what waits for its client, and this event. Only the first call counts.
    pub fn set(&self, last: Bytes) {
        if self.last.set(last).is_ok() {
            self.waker.wake();
        }
    }

    pub(super) fn poll(&self, task: &mut Context<'_>) -> Poll<Bytes> {
        // First the waker, then the look: an end that is set in between is seen, or wakes.
        self.waker.register(task.waker());
        self.last
            .get()
            .map_or(Poll::Pending, |last| Poll::Ready(last.clone()))
    }
}
