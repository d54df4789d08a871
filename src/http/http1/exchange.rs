//! The exchange of one request and its response. The service gets the request, and its body is read when the
//! service requests it.
//!
//! While the service works, a little input is read ahead, so that a disconnected client is noticed.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::StatusCode;
use bytes::BytesMut;
use tokio::time::timeout;

use super::body::{self, Feed, ReadOutcome};
use super::connection::{AfterResponse, ClientGone, Connection, ResponseContext};
use super::encode;
use super::parse::RequestStart;
use crate::http::early_hints::HintQueue;
use crate::http::head::Version;
use crate::http::limits::{BODY_AHEAD_BYTES, READ_AHEAD_BYTES};
use crate::http::lingering_close::LINGERING_TIMEOUT;
use crate::http::payload::Payload;
use crate::http::request::WireRequest;
use crate::http::response::WireResponse;
use crate::http::service::{RequestContext, respond};
use crate::http::transport::Transport;

/// The handling of a body whose rest is unread when the response is there.
#[derive(Copy, Clone, Eq, PartialEq)]
enum UnreadBody {
    /// All of the body was read.
    Nothing,
    /// The rest is read and discarded, because it is small.
    Skip,
    /// The connection closes: reading the rest would take longer than a new connection.
    Close,
}

/// A request that waits for its response.
struct PendingExchange<'w> {
    feed: Option<&'w Feed>,
    /// The client waits for `100 Continue`.
    expects_continue: bool,
    /// Early hints of user code.
    hints: &'w HintQueue,
    /// HTTP/1.0 has no interim responses (RFC 9110, section 15.2).
    supports_interim: bool,
}

impl<T: Transport> Connection<T> {
    /// Responds to one request. It takes `start`.
    // A function that returns a future, which stores only what it needs: see `a_running_request_is_small`.
    pub(super) fn exchange<'c>(
        &'c mut self,
        start: &mut Option<RequestStart>,
    ) -> impl Future<Output = AfterResponse> + use<'c, T> {
        let RequestStart {
            method,
            head,
            framing,
            keep_alive,
            expects_continue,
            ..
        } = start.take().expect("a request to answer");
        self.has_received_request = true;
        if !self.is_blocked {
            self.deadline.clear();
        }
        let version = head.version;
        let (feed, payload) = match body::pair(framing) {
            Some((feed, stream)) => (Some(feed), Payload::Http1(stream)),
            None => (None, Payload::Empty),
        };
        let mut request = WireRequest {
            method: method.clone(),
            head,
            payload,
        };
        let worker = Rc::clone(&self.worker);
        async move {
            // The queued output of earlier responses is bounded.
            if self.output.is_full() && Box::pin(self.make_capacity()).await.is_err() {
                return AfterResponse::Abort;
            }
            // A complete response is written without waiting, so this future reserves no memory for that.
            let (unwritten, unread) = {
                let hints = HintQueue::default();
                let mut pending = PendingExchange {
                    feed: feed.as_ref(),
                    expects_continue,
                    hints: &hints,
                    supports_interim: version != Version::Http10,
                };
                let responded = {
                    let context = RequestContext {
                        bodies: &worker.bodies,
                        hints: &hints,
                    };
                    let mut response = pin!(respond(&worker, &mut request, &context));
                    poll_fn(|task| self.poll_response(response.as_mut(), &mut pending, task)).await
                };
                // The body is dropped, too, if no reader has taken it.
                drop(request);
                let Ok(response) = responded else {
                    return AfterResponse::Abort;
                };
                // A client that still waits for 100 may send the body or not, so later input is ambiguous. If the
                // body timed out, its rest would time out, too.
                let may_skip =
                    !pending.expects_continue && response.status != StatusCode::REQUEST_TIMEOUT;
                let unread = self.rest_of(feed.as_ref(), may_skip);
                let closes = !keep_alive
                    || unread == UnreadBody::Close
                    || self.worker.shutdown.is_triggered()
                    || encode::requests_close(&response);
                let context = ResponseContext {
                    method: &method,
                    version,
                    closes,
                    feed: feed.as_ref().filter(|feed| feed.is_held()),
                };
                (self.start_response(&context, response), unread)
            };
            let after = if unwritten.is_nothing() {
                AfterResponse::Keep
            } else {
                Box::pin(self.finish_response(unwritten)).await
            };
            match (after, unread, &feed) {
                (AfterResponse::Keep, UnreadBody::Skip, Some(feed)) => {
                    Box::pin(self.skip(feed)).await
                }
                // A client that expects the connection to stay open may be sending its next request already.
                (AfterResponse::Close { .. }, unread, _) => AfterResponse::Close {
                    should_linger: keep_alive
                        || unread != UnreadBody::Nothing
                        || !self.input.is_empty(),
                },
                (after, ..) => after,
            }
        }
    }

    /// Writes until the output has capacity for another response.
    async fn make_capacity(&mut self) -> Result<(), ClientGone> {
        while self.output.is_full() {
            poll_fn(|task| self.poll_output(task)).await?;
        }
        Ok(())
    }

    /// Polls the response, and reads the body if the response needs it.
    fn poll_response(
        &mut self,
        mut response: Pin<&mut impl Future<Output = WireResponse>>,
        pending: &mut PendingExchange<'_>,
        task: &mut Context<'_>,
    ) -> Poll<Result<WireResponse, ClientGone>> {
        loop {
            let polled = response.as_mut().poll(task);
            for hints in pending.hints.take() {
                if pending.supports_interim {
                    encode::write_early_hints(self.output.tail(), &hints);
                }
            }
            if let Poll::Ready(response) = polled {
                return Poll::Ready(Ok(response));
            }
            let has_more = match pending.feed {
                Some(feed) if feed.wants_more() => {
                    // A client that has begun to send the body does not wait for 100 (RFC 9110, section 10.1.1).
                    if std::mem::take(&mut pending.expects_continue) && self.input.is_empty() {
                        encode::write_continue(self.output.tail());
                    }
                    self.poll_body(feed, task)?
                }
                Some(feed) if !feed.is_over() => false,
                _ => {
                    self.poll_ahead(task)?;
                    false
                }
            };
            if !has_more {
                break;
            }
        }
        match self.poll_output(task) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    }

    /// Reads more of a body. False: no more input for now.
    pub(super) fn poll_body(
        &mut self,
        feed: &Feed,
        task: &mut Context<'_>,
    ) -> Result<bool, ClientGone> {
        if !self.input.is_empty() {
            let used = feed.use_input(&mut self.input);
            if self.input.is_empty() {
                // Frees the buffer, which had the size of the input with the head.
                self.input = BytesMut::new();
            }
            if used || !self.input.is_empty() {
                return Ok(used);
            }
        }
        if self.is_half_closed {
            feed.fail();
            return Ok(true);
        }
        let scratch = &mut *self.worker.scratch.borrow_mut();
        match feed.poll_read(&mut self.stream, scratch, &mut self.input, task) {
            Poll::Ready(Ok(ReadOutcome::Progress)) => Ok(true),
            Poll::Ready(Ok(ReadOutcome::Closed)) => {
                self.is_half_closed = true;
                Ok(true)
            }
            Poll::Ready(Err(_)) => Err(ClientGone),
            Poll::Pending => Ok(false),
        }
    }

    /// Reads a little input after the request, so that a disconnected client is noticed.
    pub(super) fn poll_ahead(&mut self, task: &mut Context<'_>) -> Result<(), ClientGone> {
        while !self.is_half_closed && self.input.len() < READ_AHEAD_BYTES {
            let scratch = &mut *self.worker.scratch.borrow_mut();
            let capacity = READ_AHEAD_BYTES - self.input.len();
            match body::poll_read(&mut self.stream, &mut scratch[..capacity], task) {
                Poll::Ready(Ok(0)) => self.is_half_closed = true,
                Poll::Ready(Ok(count)) => self.input.extend_from_slice(&scratch[..count]),
                Poll::Ready(Err(_)) => return Err(ClientGone),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Decides what happens to the unread rest of a body.
    fn rest_of(&mut self, feed: Option<&Feed>, may_skip: bool) -> UnreadBody {
        let Some(feed) = feed else {
            return UnreadBody::Nothing;
        };
        // The handler still reads while its response is sent. It is not known yet whether it reads to the end.
        if feed.is_held() && !feed.is_over() {
            return UnreadBody::Close;
        }
        let skipped = feed.skip(&self.input);
        let _ = self.input.split_to(skipped);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if feed.is_broken() {
            return UnreadBody::Close;
        }
        if feed.is_over() {
            return UnreadBody::Nothing;
        }
        let is_small = feed
            .left()
            .is_some_and(|left| left <= BODY_AHEAD_BYTES as u64);
        if is_small && may_skip && !self.is_half_closed {
            UnreadBody::Skip
        } else {
            UnreadBody::Close
        }
    }

    /// Reads and discards the rest of a body.
    async fn skip(&mut self, feed: &Feed) -> AfterResponse {
        let skipped = poll_fn(|task| {
            loop {
                if feed.is_over() {
                    return Poll::Ready(Ok(()));
                }
                match self.poll_output(task) {
                    Poll::Ready(Err(ClientGone)) => return Poll::Ready(Err(ClientGone)),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
                let scratch = &mut *self.worker.scratch.borrow_mut();
                match ready!(body::poll_read(&mut self.stream, scratch, task)) {
                    Ok(count @ 1..) => {
                        let used = feed.skip(&scratch[..count]);
                        self.input.extend_from_slice(&scratch[used..count]);
                    }
                    _ => return Poll::Ready(Err(ClientGone)),
                }
            }
        });
        match timeout(LINGERING_TIMEOUT, skipped).await {
            Ok(Ok(())) => AfterResponse::Keep,
            Ok(Err(ClientGone)) => AfterResponse::Abort,
            Err(_) => AfterResponse::Close {
                should_linger: false,
            },
        }
    }
}
