//! The state of one HTTP/1 connection, and the writing of its queued output under a deadline.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::Method;
use bytes::BytesMut;

use super::body::Feed;
use super::output::Output;
use crate::http::deadlines::Deadline;
use crate::http::head::Version;
use crate::http::peer::Peer;
use crate::http::tcp;
use crate::http::transport::Transport;
use crate::http::worker::HttpWorker;

/// The state of a connection after a response.
pub(super) enum AfterResponse {
    /// It reads the next request.
    Keep,
    /// It closes. `should_linger`: the client may still be sending.
    Close { should_linger: bool },
    /// It is aborted: the response is incomplete, or the client has disconnected.
    Abort,
}

/// The client has disconnected, or has taken no bytes for too long.
pub(super) struct ClientGone;

/// The facts about a request that its response depends on.
pub(super) struct ResponseContext<'r> {
    pub(super) method: &'r Method,
    pub(super) version: Version,
    /// The connection closes after the response.
    pub(super) closes: bool,
    /// The rest of the request's body, if the handler still reads it.
    pub(super) feed: Option<&'r Feed>,
}

/// An HTTP/1 connection.
pub(super) struct Connection<T> {
    pub(super) worker: Rc<HttpWorker>,
    pub(super) stream: T,
    /// The other end, which may be a proxy.
    pub(super) peer: Peer,
    /// Input that was read and not used yet. Empty while the connection is idle.
    pub(super) input: BytesMut,
    pub(super) output: Output,
    pub(super) deadline: Deadline,
    /// It has received a request.
    pub(super) has_received_request: bool,
    /// The client has closed its sending side. It may still wait for responses.
    pub(super) is_half_closed: bool,
    /// The kernel does not accept `output`; the deadline is the write time-out.
    pub(super) is_blocked: bool,
    /// Bytes that the client had acknowledged when the write time-out last passed.
    pub(super) acknowledged: u64,
}

impl<T: Transport> Connection<T> {
    /// Writes the queued output. An error: the client has disconnected, or has taken no bytes for too long.
    pub(super) fn poll_output(&mut self, task: &mut Context<'_>) -> Poll<Result<(), ClientGone>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut has_taken = false;
        let flushed = self
            .output
            .poll_flush(&mut self.stream, task, || has_taken = true);
        self.track_write(&flushed, has_taken)
    }

    /// Updates the write deadline after a write. `has_taken`: the kernel accepted some bytes.
    pub(super) fn track_write(
        &mut self,
        written: &Poll<io::Result<()>>,
        has_taken: bool,
    ) -> Poll<Result<(), ClientGone>> {
        match written {
            Poll::Ready(Ok(())) => {
                if std::mem::take(&mut self.is_blocked) {
                    self.deadline.clear();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(ClientGone)),
            Poll::Pending if has_taken || !self.is_blocked => {
                self.is_blocked = true;
                self.deadline.set(self.worker.config.write_timeout);
                Poll::Pending
            }
            Poll::Pending if self.deadline.is_over() && !self.takes_what_was_written() => {
                Poll::Ready(Err(ClientGone))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Whether the client has acknowledged bytes since the last check. The kernel accepts nothing until a third of
    /// its buffer is free. Over a slow link that may take longer than the time-out, although the client reads
    /// without pause: then it gets more time. The kernel closes a connection whose client has stopped; its time-out
    /// is as long.
    fn takes_what_was_written(&mut self) -> bool {
        let acknowledged = tcp::acks(self.stream.socket()).map_or(0, |acks| acks.acknowledged);
        let takes = acknowledged > self.acknowledged;
        self.acknowledged = acknowledged;
        if takes {
            self.deadline.set(self.worker.config.write_timeout);
        }
        takes
    }
}
