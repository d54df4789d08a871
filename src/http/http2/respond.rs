//! A response on a stream of `h2`, at the pace of its client.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use actix_http::Method;
use actix_http::body::{BoxBody, MessageBody};
use actix_http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use tokio::time::timeout;

use crate::http::content::Content;
use crate::http::date;
use crate::http::response::WireResponse;

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

/// Sends a whole response to a request of this method. A client that takes nothing of it for `patience` gets
/// no more.
pub(super) async fn respond(
    method: &Method,
    mut response: WireResponse,
    mut responder: SendResponse<Bytes>,
    patience: Duration,
) {
    let content = Content::of(method, &mut response);
    let length = match &content {
        Content::Nothing(length) | Content::Pieces(_, length) => *length,
        Content::Whole(bytes) => Some(bytes.len() as u64),
        Content::File(file) => Some(file.left()),
    };
    let is_empty = match &content {
        Content::Nothing(_) => true,
        Content::Whole(bytes) => bytes.is_empty(),
        Content::File(_) | Content::Pieces(..) => false,
    };
    let Some(head) = head_of(&response, length) else {
        responder.send_reset(Reason::INTERNAL_ERROR);
        return;
    };
    // A client that has gone does not miss the answer.
    let Ok(mut stream) = responder.send_response(head, is_empty) else {
        return;
    };
    let body = match content {
        Content::Whole(bytes) if !is_empty => {
            if let Err(reason) = send(&mut stream, bytes, patience).await {
                stream.send_reset(reason);
                return;
            }
            let _ = stream.send_data(Bytes::new(), true);
            return;
        }
        Content::File(file) => BoxBody::new(file),
        Content::Pieces(body, _) => body,
        Content::Whole(_) | Content::Nothing(_) => return,
    };
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

/// None: a header that HTTP/2 cannot have.
fn head_of(from: &WireResponse, length: Option<u64>) -> Option<http::Response<()>> {
    let mut head = http::Response::new(());
    *head.status_mut() = http::StatusCode::from_u16(from.status.as_u16()).ok()?;
    let headers = head.headers_mut();
    let newer = |name: &HeaderName, value: &HeaderValue| {
        let name = http::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        let value = http::HeaderValue::from_bytes(value.as_bytes()).ok()?;
        Some((name, value))
    };
    if let Some(kind) = &from.content_type {
        let (name, value) = newer(&CONTENT_TYPE, kind)?;
        headers.insert(name, value);
    }
    for (name, value) in &from.headers {
        if *name == CONTENT_LENGTH || OF_HTTP1.contains(&name.as_str()) {
            continue;
        }
        let (name, value) = newer(name, value)?;
        headers.append(name, value);
    }
    if let Some(length) = length {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    if !headers.contains_key(DATE.as_str()) {
        headers.insert(
            http::header::DATE,
            http::HeaderValue::from_bytes(&date::now()).ok()?,
        );
    }
    Some(head)
}
