//! How much the client of a connection may send before it is read.
//!
//! A connection has one window for all of its streams, beside the window of each. Streams that no handler reads use it
//! up, and would hold up all others. So the window of the connection grows by what waits in its bodies, as long as the
//! memory for bodies has room for that; above it the client waits until some of them are read. What waits is not in
//! `h2` any more: that would keep each frame, however small.

use std::task::Context;

use bytes::Bytes;
use h2::server::Connection;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{Feed, WeakFeed};
use crate::http::budget::Hold;
use crate::http::limits::CONNECTION_WINDOW_BYTES;

/// What waits is counted in steps of so much: most bodies are read when they have come, and change nothing.
const STEP: usize = 64 << 10;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Window {
    bodies: Vec<WeakFeed>,
    /// What the window has grown by.
    hold: Hold,
}

impl Window {
    /// The window of a new connection. `hold` is nothing yet.
    pub(super) fn new(hold: Hold) -> Self {
        Self {
            bodies: Vec::new(),
            hold,
        }
    }

    /// A body comes on this connection.
    pub(super) fn add(&mut self, feed: &Feed) {
        self.bodies.push(feed.downgrade());
    }

    /// Closes the window by what was read since. Before the connection is driven: it would offer the client what was
    /// read as well as what the window had grown by.
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

    /// Takes what has come, and opens the window by as much of it as there is room for. When there is not enough, the
    /// task is woken as soon as somebody gives something back.
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

    /// What waits, in whole steps.
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
