//! The driver of one connection: it reads a request, has it answered, writes the response, and only then
//! looks at the next request.
//!
//! This part waits for heads, writes what waits, and ends the connection. An idle connection holds no buffer.
//! Responses to requests that came together leave together.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::{Method, StatusCode};
use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::body;
use super::output::Output;
use super::parse::{Framing, HeadError, RequestStart, parse};
use super::respond::Request;
use crate::http::deadlines::Deadline;
use crate::http::farewell::LINGER;
use crate::http::head::Version;
use crate::http::limits::{MAX_LINGER_BYTES, MAX_TARGET_BYTES};
use crate::http::peer::Peer;
use crate::http::response::Response;
use crate::http::router::Outcome;
use crate::http::service::Worker;
use crate::http::tcp;
use crate::http::transport::Transport;
use crate::http::websocket::upgrade::{self, upgrade};

/// Serves a connection to its end, or until it becomes a WebSocket.
pub(in crate::http) async fn serve<T: Transport>(
    worker: Rc<Worker>,
    stream: T,
    peer: Option<SocketAddr>,
) {
    let deadline = poll_fn(|task| Poll::Ready(worker.deadlines.add(task.waker().clone()))).await;
    let mut connection = Connection {
        peer: Peer {
            address: peer,
            is_secure: worker.is_secure,
        },
        worker,
        stream,
        input: BytesMut::new(),
        output: Output::default(),
        deadline,
        has_asked: false,
        is_half_closed: false,
        is_blocked: false,
        acknowledged: 0,
    };
    loop {
        connection.begin_to_wait();
        let mut next = poll_fn(|task| connection.poll_head(task)).await;
        loop {
            next = match next {
                Next::Request(start) if connection.becomes_websocket(&start) => {
                    if start.framing == Framing::Empty {
                        return connection.upgrade(start);
                    }
                    let reason = "The handshake of a WebSocket has no body.".into();
                    let status = StatusCode::BAD_REQUEST;
                    return Box::pin(connection.refuse(HeadError { status, reason })).await;
                }
                // Boxed, so that an idle connection has no room for it.
                Next::Request(start) => match Box::pin(connection.exchanges(start)).await {
                    Some(next) => next,
                    None => break,
                },
                Next::Refused(error) => return Box::pin(connection.refuse(error)).await,
                Next::Closed { lingers } => return Box::pin(connection.close(lingers)).await,
                Next::Gone => return,
            };
        }
    }
}

/// What a connection does next.
enum Next {
    Request(RequestStart),
    /// What came is not a request, or did not come in time.
    Refused(HeadError),
    /// Nothing has come for too long, nothing more comes, or this was the last response. `lingers`: the client
    /// may be sending still.
    Closed {
        lingers: bool,
    },
    /// It is cut off: the client has gone, or a response is not whole.
    Gone,
}

/// What becomes of a connection after a response.
pub(super) enum After {
    /// The next request is read.
    Keep,
    /// It is closed. `lingers`: the client may be sending still.
    Close { lingers: bool },
    /// It is cut off: the response is not whole, or the client has gone.
    Abort,
}

/// The client has gone, or takes nothing any more.
pub(super) struct Gone;

/// See the module's documentation.
pub(super) struct Connection<T> {
    pub(super) worker: Rc<Worker>,
    pub(super) stream: T,
    /// The other end, which may be a proxy.
    pub(super) peer: Peer,
    /// Read, and not used yet. Empty while the connection is idle.
    pub(super) input: BytesMut,
    pub(super) output: Output,
    pub(super) deadline: Deadline,
    /// It has brought a request.
    pub(super) has_asked: bool,
    /// The client has shut down its sending side. It may still want its answers.
    pub(super) is_half_closed: bool,
    /// The kernel does not take what waits in `output`; the deadline is that of writing.
    pub(super) is_blocked: bool,
    /// Bytes that the client had acknowledged when the time-out for writing was over.
    pub(super) acknowledged: u64,
}

impl<T: Transport> Connection<T> {
    /// Sets the deadline for the next head.
    fn begin_to_wait(&mut self) {
        let config = &self.worker.config;
        self.deadline
            .set(if self.input.is_empty() && self.has_asked {
                config.keep_alive
            } else {
                config.head_timeout
            });
    }

    /// Has this request answered, and those that have come behind it. None: the next one is waited for.
    // A function that makes a future: an `async fn` would hold the request twice.
    fn exchanges(&mut self, start: RequestStart) -> impl Future<Output = Option<Next>> {
        let mut start = Some(start);
        async move {
            loop {
                match self.exchange(&mut start).await {
                    After::Keep => {}
                    After::Close { lingers } => return Some(Next::Closed { lingers }),
                    After::Abort => return Some(Next::Gone),
                }
                match self.take_head()? {
                    Next::Request(next) if !self.becomes_websocket(&next) => start = Some(next),
                    next => return Some(next),
                }
            }
        }
    }

    /// The first head of what was read. None: it is not whole.
    fn take_head(&mut self) -> Option<Next> {
        if self.input.is_empty() {
            return None;
        }
        match parse(&self.input, self.peer) {
            Ok(Some(mut start)) => {
                self.worker.config.place(&mut start.head);
                self.input.advance(start.len);
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
                Some(Next::Request(start))
            }
            Ok(None) => None,
            Err(error) => Some(Next::Refused(error)),
        }
    }

    /// Reads until there is a whole head. Writes what waits meanwhile.
    fn poll_head(&mut self, task: &mut Context<'_>) -> Poll<Next> {
        // A head that is not whole is only looked at again when another of its lines has come, or when it may have
        // become too large.
        let mut is_new = !self.input.is_empty();
        loop {
            if is_new && let Some(next) = self.take_head() {
                return Poll::Ready(next);
            }
            let was_blocked = self.is_blocked;
            match self.poll_output(task) {
                Poll::Ready(Err(Gone)) => return Poll::Ready(Next::Gone),
                Poll::Ready(Ok(())) if was_blocked => self.begin_to_wait(),
                _ => {}
            }
            if self.is_half_closed {
                if self.output.is_empty() {
                    return Poll::Ready(Next::Closed { lingers: false });
                }
                return Poll::Pending;
            }
            let was_empty = self.input.is_empty();
            let read = {
                let scratch = &mut *self.worker.scratch.borrow_mut();
                match body::poll_read(&mut self.stream, scratch, task) {
                    Poll::Ready(Ok(0)) => {
                        self.is_half_closed = true;
                        is_new = false;
                        continue;
                    }
                    Poll::Ready(Ok(count)) => {
                        let read = &scratch[..count];
                        is_new = was_empty
                            || read.contains(&b'\n')
                            || self.input.len() > MAX_TARGET_BYTES / 2;
                        self.input.extend_from_slice(read);
                        Poll::Ready(())
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Next::Gone),
                    Poll::Pending => Poll::Pending,
                }
            };
            if read.is_pending() {
                break;
            }
            if was_empty && !self.is_blocked {
                self.begin_to_wait();
            }
        }
        if self.deadline.is_over() && !self.is_blocked {
            if self.input.is_empty() {
                return Poll::Ready(Next::Closed { lingers: false });
            }
            let reason = "The request's head did not come in time.".into();
            let status = StatusCode::REQUEST_TIMEOUT;
            return Poll::Ready(Next::Refused(HeadError { status, reason }));
        }
        if self.input.is_empty() && self.worker.linger.may_close(self.has_asked) {
            return Poll::Ready(Next::Closed { lingers: false });
        }
        Poll::Pending
    }

    /// Writes what waits. An error: the client has gone, or has taken nothing for too long.
    pub(super) fn poll_output(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.output.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut has_taken = false;
        let flushed = self
            .output
            .poll_flush(&mut self.stream, task, || has_taken = true);
        self.judge(&flushed, has_taken)
    }

    /// What comes of an attempt to write. `has_taken`: the kernel took some of it.
    pub(super) fn judge(
        &mut self,
        written: &Poll<io::Result<()>>,
        has_taken: bool,
    ) -> Poll<Result<(), Gone>> {
        match written {
            Poll::Ready(Ok(())) => {
                if std::mem::take(&mut self.is_blocked) {
                    self.deadline.clear();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(Gone)),
            Poll::Pending if has_taken || !self.is_blocked => {
                self.is_blocked = true;
                self.deadline.set(self.worker.config.write_timeout);
                Poll::Pending
            }
            Poll::Pending if self.deadline.is_over() && !self.takes_what_was_written() => {
                Poll::Ready(Err(Gone))
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

    /// Whether a request opens a WebSocket, or is refused as one that tries to. A server may answer it as if
    /// the client had not asked for another protocol (RFC 9110, section 7.8), where it has such an answer.
    fn becomes_websocket(&self, start: &RequestStart) -> bool {
        if !start.wants_websocket {
            return false;
        }
        let router = &self.worker.routes.router;
        let path = start.head.path();
        router.websocket(path).is_some()
            || !matches!(router.http(&start.method, path), Outcome::Found(_))
    }

    /// Hands the socket over to the hub.
    fn upgrade(mut self, start: RequestStart) {
        let RequestStart { method, head, .. } = start;
        let connection = upgrade::Connection {
            early: self.input.to_vec(),
            unsent: self.output.take(),
            stream: self.stream,
        };
        upgrade(&self.worker, &method, &head, connection);
    }

    /// Answers what is not a request, and closes.
    async fn refuse(mut self, error: HeadError) {
        let HeadError { status, reason } = error;
        log::debug!(
            "a request of {:?} is refused with {status}: {reason}",
            self.peer.address
        );
        let response = Response::sentence(status, reason);
        let request = Request {
            method: &Method::GET,
            version: Version::Http11,
            closes: true,
            feed: None,
        };
        let response = self.begin(&request, response);
        if let After::Close { .. } = self.finish(response).await {
            self.close(true).await;
        }
    }

    /// Ends the connection behind its last response. A socket that is closed with unread input is reset, and
    /// takes the response with it: so what the client still sends is read for a while.
    async fn close(mut self, lingers: bool) {
        let closed = async {
            if self.stream.shutdown().await.is_err() || !lingers {
                return;
            }
            let mut left = MAX_LINGER_BYTES;
            while !self.is_half_closed && left > 0 {
                let read = poll_fn(|task| {
                    let scratch = &mut *self.worker.scratch.borrow_mut();
                    body::poll_read(&mut self.stream, scratch, task)
                });
                match read.await {
                    Ok(count @ 1..) => left = left.saturating_sub(count),
                    _ => return,
                }
            }
        };
        // A client that sends on after that has had the time to read.
        let _ = timeout(LINGER, closed).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// Of the future that such a function makes.
    fn size_of_future<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_running_request_is_small() {
        type Plain = Connection<TcpStream>;
        let size =
            size_of_future(|connection: &'static mut Plain, start| connection.exchanges(start));
        // glibc keeps freed blocks of up to so many bytes for each thread.
        assert!(size <= 1032, "{size}");
    }
}
