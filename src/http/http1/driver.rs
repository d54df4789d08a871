//! The driver of one HTTP/1 connection: it reads a request, waits for the response, writes it, and only
//! then parses the next request.
//!
//! This part reads heads, writes queued output between requests, and closes the connection. An idle connection
//! owns no buffer. Responses to pipelined requests leave in one write.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::{Method, StatusCode};
use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::body;
use super::connection::{AfterResponse, ClientGone, Connection, ResponseContext};
use super::fields::Framing;
use super::head_error::HeadError;
use super::output::Output;
use super::parse::{RequestStart, parse};
use crate::http::head::Version;
use crate::http::limits::{MAX_LINGER_BYTES, MAX_TARGET_BYTES};
use crate::http::lingering_close::LINGERING_TIMEOUT;
use crate::http::peer::Peer;
use crate::http::response::Response;
use crate::http::router::RouteLookup;
use crate::http::transport::Transport;
use crate::http::websocket::upgrade::{self, upgrade};
use crate::http::worker::HttpWorker;

/// Serves a connection to its end, or until it becomes a WebSocket.
pub(in crate::http) async fn serve<T: Transport>(
    worker: Rc<HttpWorker>,
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
        has_received_request: false,
        is_half_closed: false,
        is_blocked: false,
        acknowledged: 0,
    };
    loop {
        connection.start_head_deadline();
        let mut next = poll_fn(|task| connection.poll_head(task)).await;
        loop {
            next = match next {
                NextStep::Request(start) if connection.opens_websocket(&start) => {
                    if start.framing == Framing::Empty {
                        return connection.upgrade(start);
                    }
                    let reason = "The handshake of a WebSocket has no body.".into();
                    let status = StatusCode::BAD_REQUEST;
                    return Box::pin(connection.refuse(HeadError { status, reason })).await;
                }
                // Boxed, so that an idle connection reserves no memory for it.
                NextStep::Request(start) => match Box::pin(connection.exchanges(start)).await {
                    Some(next) => next,
                    None => break,
                },
                NextStep::Refused(error) => return Box::pin(connection.refuse(error)).await,
                NextStep::Closed { should_linger } => {
                    return Box::pin(connection.close(should_linger)).await;
                }
                NextStep::Abort => return,
            };
        }
    }
}

/// The next step of a connection.
enum NextStep {
    Request(RequestStart),
    /// The input is not a request, or did not arrive in time.
    Refused(HeadError),
    /// The connection was idle for too long, the client has closed it, or this was the last response.
    /// `should_linger`: the client may still be sending.
    Closed {
        should_linger: bool,
    },
    /// The connection is aborted: the client has disconnected, or a response is incomplete.
    Abort,
}

impl<T: Transport> Connection<T> {
    /// Sets the deadline for the next head.
    fn start_head_deadline(&mut self) {
        let config = &self.worker.config;
        self.deadline
            .set(if self.input.is_empty() && self.has_received_request {
                config.keep_alive
            } else {
                config.head_timeout
            });
    }

    /// Responds to this request and to those that arrived with it. None: the connection waits for the next one.
    // A function that returns a future: an `async fn` would store the request twice.
    fn exchanges(&mut self, start: RequestStart) -> impl Future<Output = Option<NextStep>> {
        let mut start = Some(start);
        async move {
            loop {
                match self.exchange(&mut start).await {
                    AfterResponse::Keep => {}
                    AfterResponse::Close { should_linger } => {
                        return Some(NextStep::Closed { should_linger });
                    }
                    AfterResponse::Abort => return Some(NextStep::Abort),
                }
                match self.take_head()? {
                    NextStep::Request(next) if !self.opens_websocket(&next) => start = Some(next),
                    next => return Some(next),
                }
            }
        }
    }

    /// Parses the first head of the input. None: it is incomplete.
    fn take_head(&mut self) -> Option<NextStep> {
        if self.input.is_empty() {
            return None;
        }
        match parse(&self.input, self.peer) {
            Ok(Some(mut start)) => {
                self.worker.config.resolve_peer(&mut start.head);
                self.input.advance(start.len);
                if self.input.is_empty() {
                    self.input = BytesMut::new();
                }
                Some(NextStep::Request(start))
            }
            Ok(None) => None,
            Err(error) => Some(NextStep::Refused(error)),
        }
    }

    /// Reads until there is a complete head. Writes queued output meanwhile.
    fn poll_head(&mut self, task: &mut Context<'_>) -> Poll<NextStep> {
        // An incomplete head is parsed again only when another of its lines has arrived, or when it may be too
        // large.
        let mut is_new = !self.input.is_empty();
        loop {
            if is_new && let Some(next) = self.take_head() {
                return Poll::Ready(next);
            }
            let was_blocked = self.is_blocked;
            match self.poll_output(task) {
                Poll::Ready(Err(ClientGone)) => return Poll::Ready(NextStep::Abort),
                Poll::Ready(Ok(())) if was_blocked => self.start_head_deadline(),
                _ => {}
            }
            if self.is_half_closed {
                if self.output.is_empty() {
                    return Poll::Ready(NextStep::Closed {
                        should_linger: false,
                    });
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
                    Poll::Ready(Err(_)) => return Poll::Ready(NextStep::Abort),
                    Poll::Pending => Poll::Pending,
                }
            };
            if read.is_pending() {
                break;
            }
            if was_empty && !self.is_blocked {
                self.start_head_deadline();
            }
        }
        if self.deadline.is_over() && !self.is_blocked {
            if self.input.is_empty() {
                return Poll::Ready(NextStep::Closed {
                    should_linger: false,
                });
            }
            let reason = "The request's head did not come in time.".into();
            let status = StatusCode::REQUEST_TIMEOUT;
            return Poll::Ready(NextStep::Refused(HeadError { status, reason }));
        }
        if self.input.is_empty()
            && self
                .worker
                .keepalive_drain
                .may_close(self.has_received_request)
        {
            return Poll::Ready(NextStep::Closed {
                should_linger: false,
            });
        }
        Poll::Pending
    }

    /// Whether a request opens a WebSocket, or must be refused as one. A server may ignore the client's request for
    /// another protocol (RFC 9110, section 7.8), if it has a response without it.
    fn opens_websocket(&self, start: &RequestStart) -> bool {
        if !start.wants_websocket {
            return false;
        }
        let router = &self.worker.routes.router;
        let path = start.head.path();
        router.websocket(path).is_some()
            || !matches!(router.http(&start.method, path), RouteLookup::Match(_))
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

    /// Responds to input that is not a valid request, and closes.
    async fn refuse(mut self, error: HeadError) {
        let HeadError { status, reason } = error;
        log::debug!(
            "a request of {:?} is refused with {status}: {reason}",
            self.peer.address
        );
        let response = Response::sentence(status, reason);
        let context = ResponseContext {
            method: &Method::GET,
            version: Version::Http11,
            closes: true,
            feed: None,
        };
        let response = self.start_response(&context, response);
        if let AfterResponse::Close { .. } = self.finish_response(response).await {
            self.close(true).await;
        }
    }

    /// Closes the connection after its last response. If a socket is closed with unread input, TCP resets the
    /// connection, and the response is lost. So input that still arrives is read for a while.
    async fn close(mut self, should_linger: bool) {
        let closed = async {
            if self.stream.shutdown().await.is_err() || !should_linger {
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
        // A client that is still sending after that has had the time to read.
        let _ = timeout(LINGERING_TIMEOUT, closed).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    /// The size of the future that such a function returns.
    fn size_of_future<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_running_request_is_small() {
        type Plain = Connection<TcpStream>;
        let size =
            size_of_future(|connection: &'static mut Plain, start| connection.exchanges(start));
        // glibc keeps freed blocks up to this size per thread.
        assert!(size <= 1032, "{size}");
    }
}
