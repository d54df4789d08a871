//! The sender of a response on a stream of `h2`, at the speed of its client.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::Poll;
use std::time::Duration;

use actix_http::Method;
use actix_http::body::{BoxBody, MessageBody};
use actix_http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use tokio::time::timeout;

use crate::http::budget::{Budget, Hold};
use crate::http::date;
use crate::http::early_hints::EarlyHints;
use crate::http::limits::STREAM_SEND_BYTES;
use crate::http::response::WireResponse;
use crate::http::spool::Spool;
use crate::http::trailers::Trailers;
use crate::http::wire_content::WireContent;

/// Bytes that are sent at a time: the default limit of a frame.
const CHUNK: usize = 16 * 1024;

/// Connection headers of HTTP/1.1, which HTTP/2 does not allow (RFC 9113, section 8.2.2).
const HTTP1_HEADERS: [&str; 5] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// The sender of the responses of a connection.
pub(super) struct ResponseSender {
    /// A client that takes nothing of a response for this long gets no more of it.
    pub patience: Duration,
    /// The memory for complete responses that wait for the client.
    pub responses: Rc<Budget>,
}

impl ResponseSender {
    /// Sends the response to a request of this method.
    pub(super) async fn respond(
        &self,
        method: &Method,
        mut response: WireResponse,
        mut responder: SendResponse<Bytes>,
    ) {
        let content = WireContent::of(method, &mut response);
        let length = match &content {
            WireContent::Nothing(length) | WireContent::Chunks(_, length) => *length,
            WireContent::Stream(_) => None,
            WireContent::Whole(bytes) => Some(bytes.len() as u64),
            WireContent::File(file) => Some(file.left()),
        };
        let is_empty = match &content {
            WireContent::Nothing(_) => true,
            WireContent::Whole(bytes) => bytes.is_empty(),
            WireContent::File(_) | WireContent::Stream(_) | WireContent::Chunks(..) => false,
        };
        if !matches!(content, WireContent::Stream(_) | WireContent::Chunks(..)) {
            response.drop_trailers();
        }
        let Some(head) = head_of(&response, length) else {
            responder.send_reset(Reason::INTERNAL_ERROR);
            return;
        };
        // A client that has disconnected needs no response.
        let Ok(mut stream) = responder.send_response(head, is_empty) else {
            return;
        };
        let sent = match content {
            WireContent::File(file) => self.send_chunks(&mut stream, BoxBody::new(file)).await,
            WireContent::Stream(body) => self.send_chunks(&mut stream, BoxBody::new(body)).await,
            WireContent::Chunks(body, _) => self.send_chunks(&mut stream, body).await,
            WireContent::Whole(bytes) if !is_empty => self.send_whole(&mut stream, bytes).await,
            WireContent::Whole(_) | WireContent::Nothing(_) => return,
        };
        if let Err(reason) = sent {
            return stream.send_reset(reason);
        }
        let trailers = response.trailers.as_deref().and_then(OnceLock::get);
        let trailers = trailers.filter(|trailers| !trailers.is_empty());
        // A client that has disconnected needs no end of the body.
        let _ = match trailers.map(Trailers::fields).map(map_of) {
            None => stream.send_data(Bytes::new(), true),
            Some(Some(trailers)) => stream.send_trailers(trailers),
            Some(None) => return stream.send_reset(Reason::INTERNAL_ERROR),
        };
    }

    /// Sends a complete body, or a chunk of one. Large ones count for the memory of the connection until the client
    /// has taken them, or wait in a file.
    async fn send_whole(
        &self,
        stream: &mut SendStream<Bytes>,
        mut bytes: Bytes,
    ) -> Result<(), Reason> {
        if bytes.len() <= STREAM_SEND_BYTES {
            return self.send(stream, bytes).await;
        }
        let mut hold = Hold::new(&self.responses);
        if !hold.try_grow(bytes.len()) {
            return self.send_from_file(stream, bytes).await.map_err(|error| {
                let folder = std::env::temp_dir();
                log::error!("cannot store a response in {}: {error}", folder.display());
                Reason::INTERNAL_ERROR
            })?;
        }
        // `h2` may still hold parts of the end afterwards: they must not keep all of the body alive.
        let end = bytes.split_off(bytes.len() - STREAM_SEND_BYTES);
        let end = Bytes::copy_from_slice(&end);
        self.send(stream, bytes).await?;
        self.send(stream, end).await
    }

    async fn send_from_file(
        &self,
        stream: &mut SendStream<Bytes>,
        bytes: Bytes,
    ) -> io::Result<Result<(), Reason>> {
        let mut spool = Spool::write(bytes).await?;
        while let Some(chunk) = spool.next().await? {
            if let Err(reason) = self.send(stream, chunk).await {
                return Ok(Err(reason));
            }
        }
        Ok(Ok(()))
    }

    /// Sends a body while it is produced.
    async fn send_chunks(
        &self,
        stream: &mut SendStream<Bytes>,
        body: BoxBody,
    ) -> Result<(), Reason> {
        let mut body = pin!(body);
        loop {
            // A client may cancel at any time, which must be noticed before the next chunk is there.
            let next = poll_fn(|task| match body.as_mut().poll_next(task) {
                Poll::Pending => stream.poll_reset(task).map(|_| Err(Reason::CANCEL)),
                Poll::Ready(next) => Poll::Ready(Ok(next)),
            });
            match next.await? {
                // A compressor may return all of a large body as one chunk.
                Some(Ok(chunk)) => self.send_whole(stream, chunk).await?,
                Some(Err(_)) => return Err(Reason::INTERNAL_ERROR),
                None => return Ok(()),
            }
        }
    }

    /// Sends a part of a body, as fast as the client takes it.
    async fn send(&self, stream: &mut SendStream<Bytes>, mut part: Bytes) -> Result<(), Reason> {
        while !part.is_empty() {
            stream.reserve_capacity(part.len().min(CHUNK));
            let capacity = timeout(self.patience, poll_fn(|task| stream.poll_capacity(task)));
            let Ok(Some(Ok(capacity))) = capacity.await else {
                return Err(Reason::CANCEL);
            };
            let chunk = part.split_to(capacity.min(part.len()));
            stream.send_data(chunk, false).map_err(|_| Reason::CANCEL)?;
        }
        Ok(())
    }
}

/// Converts the head of a response. None: HTTP/2 does not allow one of its headers.
fn head_of(from: &WireResponse, length: Option<u64>) -> Option<http::Response<()>> {
    let mut head = http::Response::new(());
    *head.status_mut() = http::StatusCode::from_u16(from.status.as_u16()).ok()?;
    let headers = head.headers_mut();
    if let Some(kind) = &from.content_type {
        let (name, value) = convert(&CONTENT_TYPE, kind)?;
        headers.insert(name, value);
    }
    for (name, value) in &from.headers {
        if *name == CONTENT_LENGTH || HTTP1_HEADERS.contains(&name.as_str()) {
            continue;
        }
        let (name, value) = convert(name, value)?;
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

/// Makes an interim response. None: HTTP/2 does not allow one of its headers.
pub(super) fn interim(status: http::StatusCode, hints: &EarlyHints) -> Option<http::Response<()>> {
    let mut interim = http::Response::new(());
    *interim.status_mut() = status;
    *interim.headers_mut() = map_of(hints.fields())?;
    Some(interim)
}

/// Converts headers to the types of `h2`. None: HTTP/2 does not allow one of them.
fn map_of(fields: &[(HeaderName, HeaderValue)]) -> Option<http::HeaderMap> {
    let mut map = http::HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let (name, value) = convert(name, value)?;
        map.append(name, value);
    }
    Some(map)
}

fn convert(
    name: &HeaderName,
    value: &HeaderValue,
) -> Option<(http::HeaderName, http::HeaderValue)> {
    let name = http::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
    let value = http::HeaderValue::from_bytes(value.as_bytes()).ok()?;
    Some((name, value))
}
