//! One HTTP/2 connection: requests come out of it, and each is answered in a task of its own.
//!
//! All tasks end with the connection. It has a bounded number of requests *in work*, whatever its
//! client resets: a client that opens and resets streams as fast as it can (CVE-2023-44487) finds that
//! nobody accepts them while its earlier ones are in work, and `h2` ends a connection on which streams
//! are reset before they were accepted.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use actix_http::body::{BoxBody, MessageBody};
use actix_http::{Request, Response};
use actix_service::Service;
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::pin;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::convert::{self, Bodies};
use super::respond::respond;
use crate::actors::shutdown::Shutdown;
use crate::http::config::Config;
use crate::http::farewell::LINGER;

/// Requests of one connection that are in work at a time, and streams that its client may have open.
const MOST_STREAMS: usize = 100;

/// The head of a request, in bytes, as HPACK counts them (431 above it).
const MOST_HEAD_BYTES: u32 = 64 * 1024;

/// What a client may send of one body before it is read.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What a client may send of all its bodies before they are read.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// A response's bytes that wait for the client to open its window, for each stream.
const MOST_WAITING_BYTES: usize = 64 * 1024;

/// Serves a connection until its client ends it, it is idle for too long, or the server shuts down.
pub(in crate::http) async fn serve<T, S, B>(
    stream: T,
    peer: Option<SocketAddr>,
    service: &S,
    config: Arc<Config>,
    mut shutdown: Shutdown,
) where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request>,
    S::Future: 'static,
    S::Response: Into<Response<B>> + 'static,
    S::Error: Into<Response<BoxBody>> + 'static,
    B: MessageBody + 'static,
{
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(MOST_STREAMS as u32)
        .max_header_list_size(MOST_HEAD_BYTES)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(MOST_WAITING_BYTES);
    let Ok(Ok(mut connection)) = timeout(config.head_timeout, builder.handshake(stream)).await
    else {
        return;
    };
    let bodies = Bodies::new(2 * config.max_body_bytes);
    let mut in_work = JoinSet::new();
    let mut ending = false;
    // Its last responses had their time to reach a slow client.
    let mut flushed = false;
    let idle = sleep(config.keep_alive);
    pin!(idle);
    loop {
        let accepts = in_work.len() < MOST_STREAMS;
        let rests = in_work.is_empty();
        tokio::select! {
            biased;
            _ = shutdown.wait(), if !ending => {
                connection.graceful_shutdown();
                ending = true;
                idle.as_mut().reset(Instant::now() + LINGER);
            }
            Some(_) = in_work.join_next() => {
                if in_work.is_empty() {
                    flushed = false;
                    let patience = if ending { LINGER } else { config.keep_alive };
                    idle.as_mut().reset(Instant::now() + patience);
                }
            }
            next = next(&mut connection, accepts) => {
                let Some((request, mut responder)) = next else {
                    return;
                };
                let is_head = request.method() == http::Method::HEAD;
                let Some(request) = convert::request(request, peer, &bodies) else {
                    let refused = http::Response::builder().status(StatusCode::BAD_REQUEST);
                    let refused = refused.body(()).expect("a status is enough");
                    // A client that has gone does not miss it.
                    let _ = responder.send_response(refused, true);
                    continue;
                };
                let answer = service.call(request.request);
                let kept = request.kept;
                let patience = config.write_timeout;
                in_work.spawn_local(async move {
                    match answer.await {
                        Ok(response) => respond(response.into(), responder, is_head, patience).await,
                        Err(error) => respond(error.into(), responder, is_head, patience).await,
                    }
                    kept.read_rest().await;
                });
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
                idle.as_mut().reset(Instant::now() + LINGER);
            }
        }
    }
}

/// The next request, if there may be one; drives the connection anyway. None when it is over.
async fn next<T>(
    connection: &mut Connection<T, Bytes>,
    accepts: bool,
) -> Option<(http::Request<h2::RecvStream>, SendResponse<Bytes>)>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|task| {
        if accepts {
            connection.poll_accept(task)
        } else {
            match connection.poll_closed(task) {
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        }
    })
    .await?
    .ok()
}
