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

/// What becomes of a connection after a response.
pub(super) enum AfterResponse {
    /// The next request is read.
    Keep,
    /// It is closed. `should_linger`: the client may be sending still.
    Close { should_linger: bool },
    /// It is cut off: the response is not whole, or the client has gone.
    Abort,
}

/// The client has gone, or takes nothing any more.
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
    /// Read, and not used yet. Empty while the connection is idle.
    pub(super) input: BytesMut,
    pub(super) output: Output,
    pub(super) deadline: Deadline,
    /// It has brought a request.
    pub(super) has_received_request: bool,
    /// The client has shut down its sending side. It may still want its answers.
    pub(super) is_half_closed: bool,
    /// The kernel does not take what waits in `output`; the deadline is that of writing.
    pub(super) is_blocked: bool,
    /// Bytes that the client had acknowledged when the time-out for writing was over.
    pub(super) acknowledged: u64,
}

impl<T: Transport> Connection<T> {
    /// Writes what waits. An error: the client has gone, or has taken nothing for too long.
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

    /// What comes of an attempt to write. `has_taken`: the kernel took some of it.
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

    /// The kernel takes nothing until a third of its buffer is free. Over a narrow link that may last longer
    /// than the time-out, of a client that reads without pause: then it has more time. One that has stopped
    /// is ended by the kernel, whose time-out for it is as long.
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
