//! A response of `actix-http` on a stream of `h2`, at the pace of its client.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use actix_http::Response;
use actix_http::body::{BodySize, MessageBody};
use actix_http::header::{CONTENT_LENGTH, DATE, HeaderName, HttpDate};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderValue, StatusCode};
use tokio::time::timeout;

/// Bytes of a body that the client is asked for at a time: the most that a frame has by default.
const CHUNK: usize = 16 * 1024;

/// Headers of a connection of HTTP/1.1, which HTTP/2 does not have (RFC 9113, section 8.2.2).
const OF_HTTP1: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Sends a whole response. A client that takes nothing of it for `patience` gets no more.
pub(super) async fn respond<B: MessageBody>(
    response: Response<B>,
    mut responder: SendResponse<Bytes>,
    is_head: bool,
    patience: Duration,
) {
    let (head, body) = response.into_parts();
    let size = body.size();
    let Some(head) = head_of(&head, size) else {
        responder.send_reset(Reason::INTERNAL_ERROR);
        return;
    };
    let is_empty = is_head || size.is_eof() || !may_have_body(head.status());
    // A client that has gone does not miss the answer.
    let Ok(mut stream) = responder.send_response(head, is_empty) else {
        return;
    };
    if is_empty {
        return;
    }
    let mut body = pin!(body);
    loop {
        // A client that wants no more says so at any time, and must not be waited for until there is more.
        let next = poll_fn(|task| match body.as_mut().poll_next(task) {
            Poll::Pending => stream.poll_reset(task).map(|_| None),
            Poll::Ready(next) => Poll::Ready(Some(next)),
        });
        let Some(next) = next.await else {
            return;
        };
        let Some(chunk) = next else {
            break;
        };
        let sent = match chunk {
            Ok(chunk) => send(&mut stream, chunk, patience).await,
            Err(_) => Err(Reason::INTERNAL_ERROR),
        };
        if let Err(reason) = sent {
            stream.send_reset(reason);
            return;
        }
    }
    let _ = stream.send_data(Bytes::new(), true);
}

/// Sends part of a body, as fast as the client wants it.
async fn send(
    stream: &mut SendStream<Bytes>,
    mut chunk: Bytes,
    patience: Duration,
) -> Result<(), Reason> {
    while !chunk.is_empty() {
        stream.reserve_capacity(chunk.len().min(CHUNK));
        let capacity = timeout(patience, poll_fn(|task| stream.poll_capacity(task)));
        let Ok(Some(Ok(capacity))) = capacity.await else {
            return Err(Reason::CANCEL);
        };
        let part = chunk.split_to(capacity.min(chunk.len()));
        stream.send_data(part, false).map_err(|_| Reason::CANCEL)?;
    }
    Ok(())
}

fn may_have_body(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// None: a header that HTTP/2 cannot have.
fn head_of(from: &Response<()>, size: BodySize) -> Option<http::Response<()>> {
    let mut head = http::Response::new(());
    *head.status_mut() = StatusCode::from_u16(from.status().as_u16()).ok()?;
    let headers = head.headers_mut();
    for (name, value) in from.headers() {
        if OF_HTTP1.contains(&name.as_str()) {
            continue;
        }
        headers.append(
            newer(name)?,
            HeaderValue::from_bytes(value.as_bytes()).ok()?,
        );
    }
    if let BodySize::Sized(len) = size {
        headers.insert(newer(&CONTENT_LENGTH)?, HeaderValue::from(len));
    }
    if !headers.contains_key(DATE.as_str()) {
        let now = HttpDate::from(SystemTime::now()).to_string();
        headers.insert(newer(&DATE)?, HeaderValue::from_str(&now).ok()?);
    }
    Some(head)
}

fn newer(name: &HeaderName) -> Option<http::HeaderName> {
    http::HeaderName::from_bytes(name.as_str().as_bytes()).ok()
}
