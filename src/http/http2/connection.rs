//! The driver of one HTTP/2 connection: it accepts requests, and handles each in a task of its own.
//!
//! All tasks end with the connection. The number of requests *in work* is bounded, whatever the client resets. A
//! client that opens and resets streams as fast as it can (CVE-2023-44487) must wait for its earlier requests, and
//! `h2` closes a connection whose streams are reset before they are accepted.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;

use actix_http::{Method, StatusCode};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::body::{Feed, Http2Body, pair};
use super::head::head_of;
use super::respond::{ResponseSender, interim};
use super::window::Window;
use crate::http::budget::{Budget, Hold};
use crate::http::early_hints::{EarlyHints, HintQueue};
use crate::http::limits;
use crate::http::lingering_close::LINGERING_TIMEOUT;
use crate::http::payload::Payload;
use crate::http::peer::Peer;
use crate::http::request::WireRequest;
use crate::http::response::{Response, WireResponse};
use crate::http::service::{RequestContext, respond};
use crate::http::worker::HttpWorker;

/// `h2` charges a frame for the bytes that it has less than this.
const FULL_FRAME: usize = 256;

/// Serves a connection until its client closes it, it is idle for too long, or the server shuts down.
pub(in crate::http) async fn serve<T>(worker: Rc<HttpWorker>, stream: T, peer: Option<SocketAddr>)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let config = Arc::clone(&worker.config);
    let mut shutdown = worker.shutdown.clone();
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits::MAX_STREAMS as u32)
        .max_header_list_size(limits::MAX_HEAD_BYTES as u32)
        .initial_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .data_frame_budget(limits::MAX_SMALL_FRAMES * FULL_FRAME)
        .max_send_buffer_size(limits::STREAM_SEND_BYTES);
    let Ok(Ok(mut connection)) = timeout(config.head_timeout, builder.handshake(stream)).await
    else {
        return;
    };
    let mut window = Window::new(Hold::new(&worker.bodies));
    let state = ConnectionState {
        peer: Peer {
            address: peer,
            is_secure: worker.is_secure,
        },
        bodies: worker.bodies.share(limits::CONNECTION_BODY_BYTES),
        responses: worker.responses.share(limits::CONNECTION_RESPONSE_BYTES),
        worker,
    };
    let mut in_work = JoinSet::new();
    let mut ending = false;
    // Its last responses had time to reach a slow client.
    let mut flushed = false;
    let mut idle = pin!(sleep(config.keep_alive));
    loop {
        let accepts = in_work.len() < limits::MAX_STREAMS;
        let rests = in_work.is_empty();
        tokio::select! {
            biased;
            _ = shutdown.wait(), if !ending => {
                connection.graceful_shutdown();
                ending = true;
                idle.as_mut().reset(Instant::now() + LINGERING_TIMEOUT);
            }
            Some(_) = in_work.join_next() => {
                if in_work.is_empty() {
                    flushed = false;
                    let patience = if ending { LINGERING_TIMEOUT } else { config.keep_alive };
                    idle.as_mut().reset(Instant::now() + patience);
                }
            }
            next = next(&mut connection, &mut window, accepts) => {
                let Some((request, responder)) = next else {
                    return;
                };
                let (parts, stream) = request.into_parts();
                let body = (!stream.is_end_stream()).then(|| pair(stream));
                if let Some((feed, _)) = &body {
                    window.add(feed);
                }
                in_work.spawn_local(state.clone().exchange(parts, body, responder));
            }
            () = &mut idle, if rests => {
                if connection.has_streams() && !flushed {
                    flushed = true;
                    idle.as_mut().reset(Instant::now() + config.write_timeout);
                    continue;
                }
                if ending {
                    return;
                }
                connection.graceful_shutdown();
                ending = true;
                idle.as_mut().reset(Instant::now() + LINGERING_TIMEOUT);
            }
        }
    }
}

/// The state that all requests of a connection share.
#[derive(Clone)]
struct ConnectionState {
    worker: Rc<HttpWorker>,
    peer: Peer,
    bodies: Rc<Budget>,
    responses: Rc<Budget>,
}

impl ConnectionState {
    /// Handles one request, and sends the response.
    async fn exchange(
        self,
        parts: Parts,
        body: Option<(Feed, Http2Body)>,
        mut responder: SendResponse<Bytes>,
    ) {
        let sender = ResponseSender {
            patience: self.worker.config.write_timeout,
            responses: self.responses,
        };
        let (payload, feed) = match body {
            None => (Payload::Empty, None),
            Some((feed, body)) => (Payload::Http2(body), Some(feed)),
        };
        let (method, head) = match head_of(&parts, self.peer) {
            Ok(head) => head,
            Err(reason) => {
                log::debug!("a request of {:?} is refused: {reason}", self.peer.address);
                let refusal = Response::sentence(StatusCode::BAD_REQUEST, reason);
                drop(payload);
                sender.respond(&Method::GET, refusal, responder).await;
                return read_rest(feed).await;
            }
        };
        let expects = parts.headers.get(http::header::EXPECT);
        let expects = expects.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let mut head = Arc::new(head);
        self.worker.config.resolve_peer(&mut head);
        let mut request = WireRequest {
            method: method.clone(),
            head,
            payload,
        };
        let response = {
            let hints = HintQueue::default();
            let context = RequestContext {
                bodies: &self.bodies,
                hints: &hints,
            };
            let response = pin!(respond(&self.worker, &mut request, &context));
            let pending = PendingResponse {
                body: feed.as_ref().filter(|_| expects),
                hints: &hints,
            };
            pending.wait(response, &mut responder).await
        };
        // The body is dropped, too, if no reader has taken it.
        drop(request);
        sender.respond(&method, response, responder).await;
        read_rest(feed).await;
    }
}

/// A request that waits for its response.
struct PendingResponse<'w> {
    /// Its body, while the client waits for `100 Continue`.
    body: Option<&'w Feed>,
    /// Early hints of user code.
    hints: &'w HintQueue,
}

impl PendingResponse<'_> {
    /// Waits for the response, and sends interim ones. `100 Continue` is sent when the body is requested.
    async fn wait(
        mut self,
        mut response: Pin<&mut impl Future<Output = WireResponse>>,
        responder: &mut SendResponse<Bytes>,
    ) -> WireResponse {
        poll_fn(|task| {
            let polled = response.as_mut().poll(task);
            for hints in self.hints.take() {
                send_interim(responder, http::StatusCode::EARLY_HINTS, &hints);
            }
            if polled.is_pending() && self.body.take_if(|body| body.is_requested()).is_some() {
                let nothing = EarlyHints::default();
                send_interim(responder, http::StatusCode::CONTINUE, &nothing);
            }
            polled
        })
        .await
    }
}

fn send_interim(responder: &mut SendResponse<Bytes>, status: http::StatusCode, hints: &EarlyHints) {
    if let Some(interim) = interim(status, hints) {
        // A client that has disconnected needs no interim response.
        let _ = responder.send_informational(interim);
    }
}

async fn read_rest(feed: Option<Feed>) {
    if let Some(feed) = feed {
        feed.read_rest().await;
    }
}

/// The next request, if another may start. Drives the connection in any case. None when it is closed.
async fn next<T>(
    connection: &mut Connection<T, Bytes>,
    window: &mut Window,
    accepts: bool,
) -> Option<(http::Request<RecvStream>, SendResponse<Bytes>)>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|task| {
        window.shrink(connection);
        let next = if accepts {
            connection.poll_accept(task)
        } else {
            connection.poll_closed(task).map(|_| None)
        };
        window.grow(connection, task);
        next
    })
    .await?
    .ok()
}
