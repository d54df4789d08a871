//! The flow-control window of an HTTP/2 connection: the bytes that its client may send before they are read.
//!
//! Besides the window of each stream, a connection has one window for all of them. Streams without a reader fill
//! it, and would block all others. So the window of the connection grows by the bytes that wait in its bodies, as
//! long as they fit into the memory for bodies. Beyond that the client waits until some of them are read. Waiting
//! bytes are taken out of `h2`, which would store each frame, however small.

use std::task::Context;

use bytes::Bytes;
use h2::server::Connection;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{Feed, WeakFeed};
use crate::http::budget::Hold;
use crate::http::limits::CONNECTION_WINDOW_BYTES;

/// Waiting bytes are counted in steps of this size: most bodies are read at once, and change nothing.
const STEP: usize = 64 << 10;

/// The window of one connection.
#[derive(Debug)]
pub(super) struct Window {
    bodies: Vec<WeakFeed>,
    /// The bytes that the window has grown by.
    hold: Hold,
}

impl Window {
    /// The window of a new connection. `hold` holds nothing yet.
    pub(super) fn new(hold: Hold) -> Self {
        Self {
            bodies: Vec::new(),
            hold,
        }
    }

    /// Adds a body that arrives on this connection.
    pub(super) fn add(&mut self, feed: &Feed) {
        self.bodies.push(feed.downgrade());
    }

    /// Shrinks the window by the bytes that were read since. It must be called before the connection is driven,
    /// which would otherwise offer these bytes to the client twice.
    pub(super) fn shrink<T>(&mut self, connection: &mut Connection<T, Bytes>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        if self.hold.bytes() == 0 {
            return;
        }
        let wanted = self.wanted();
        if wanted < self.hold.bytes() {
            self.hold.shrink_to(wanted);
            self.set(connection);
        }
    }

    /// Takes data out of `h2`, and grows the window by as much of it as fits. If not all fits, the task is woken
    /// when memory is released.
    pub(super) fn grow<T>(&mut self, connection: &mut Connection<T, Bytes>, task: &mut Context<'_>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        if self.bodies.is_empty() {
            return;
        }
        for body in &self.bodies {
            body.take_in();
        }
        let more = self.wanted().saturating_sub(self.hold.bytes());
        if more == 0 {
            return;
        }
        // All of it, or as many steps as fit.
        let steps = (1..=more / STEP).rev();
        let mut sizes = steps.map(|count| count * STEP);
        if sizes.any(|size| self.hold.try_grow(size)) {
            self.set(connection);
        }
        if self.hold.bytes() < self.wanted() {
            self.hold.wake_at_capacity(task.waker());
        }
    }

    /// The waiting bytes, in whole steps.
    fn wanted(&mut self) -> usize {
        let mut sum = 0;
        self.bodies.retain(|body| {
            let waiting = body.waiting();
            sum += waiting.unwrap_or(0);
            waiting.is_some()
        });
        sum / STEP * STEP
    }

    fn set<T>(&self, connection: &mut Connection<T, Bytes>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let grown = u32::try_from(self.hold.bytes()).expect("streams and their windows are few");
        connection.set_target_window_size(CONNECTION_WINDOW_BYTES + grown);
    }
}
