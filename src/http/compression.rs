//! The compression that shrinks responses for clients that accept it: zstd, brotli or gzip.
//!
//! Each compressed response holds a compressor until its client has read it: 3 MiB for zstd, 2 MiB for brotli, 0.3
//! MiB for gzip; at the highest level 15, 4 and 0.3 MiB. So the number of compressors is limited; further responses
//! are sent uncompressed.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::Method;
use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::header::{self, HeaderValue};
use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use super::compressor::{Coding, Compressor, Level};
use super::encoding;
use super::request::WireRequest;
use super::response::{Response, WireBody, WireResponse};

/// Smaller bodies hardly shrink, and fit into a packet as they are.
const MIN_BYTES: u64 = 1024;

/// Responses of one worker that are compressed at a time.
const MAX_COMPRESSORS: usize = 128;

/// Compression of a stream starts only while fewer compressors are in use. Streams may last for hours, and must not
/// take all permits.
const MAX_WITH_STREAMS: usize = MAX_COMPRESSORS / 2;

/// Bytes of a stream that are compressed before the output is sent, and other tasks have their turn.
const TURN_BYTES: usize = 64 << 10;

/// Smaller chunks are compressed on the I/O thread: the handover to another thread would cost as much.
const IN_PLACE_BYTES: usize = 4 << 10;

/// The preferred coding first: zstd gives the fewest bytes for the time.
const CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

type BoxError = Box<dyn std::error::Error>;

const VARY_VALUE: HeaderValue = HeaderValue::from_static("accept-encoding");

/// The compressors of one worker.
#[derive(Debug, Default)]
pub(super) struct Compression {
    level: Level,
    permits: Rc<Cell<usize>>,
}

impl Compression {
    pub(super) fn new(level: Level) -> Self {
        let permits = Rc::default();
        Self { level, permits }
    }

    /// Compresses a response whose body is complete, if that shrinks it.
    pub(super) fn whole(&self, response: WireResponse, request: &WireRequest) -> WireResponse {
        let size = match response.body.size() {
            BodySize::Sized(size) => size,
            BodySize::None | BodySize::Stream => 0,
        };
        if size < MIN_BYTES {
            return response;
        }
        self.compress(response, request, MAX_COMPRESSORS)
    }

    /// Compresses a response whose body is produced while it is sent. The compressed output is flushed whenever the
    /// next chunk is not there yet.
    pub(super) fn stream(&self, mut response: WireResponse, request: &WireRequest) -> WireResponse {
        response.body = match response.body {
            WireBody::Stream(stream) => {
                let body = BoxBody::new(stream);
                WireBody::Boxed(BoxBody::new(YieldingBody { body, taken: 0 }))
            }
            body => body, // HEAD
        };
        self.compress(response, request, MAX_WITH_STREAMS)
    }

    /// Marks a response without its body, or with a part of it, as the complete one would be marked: status 200 and
    /// this number of bytes, if it is known.
    pub(super) fn mark<B>(response: &mut Response<B>, request: &WireRequest, bytes: Option<u64>) {
        if bytes.is_some_and(|bytes| bytes < MIN_BYTES) || !may_be_compressed(response) {
            return;
        }
        add_vary(response);
        if chosen(request).is_some() {
            weaken(response);
        }
    }

    fn compress(
        &self,
        mut response: WireResponse,
        request: &WireRequest,
        most: usize,
    ) -> WireResponse {
        let status = response.status.as_u16();
        let is_whole = matches!(status, 200 | 201 | 203 | 400..=599);
        if !is_whole || !may_be_compressed(&response) {
            return response;
        }
        add_vary(&mut response);
        let chosen = chosen(request);
        let Some((coding, permit)) = chosen.zip(CompressorPermit::take(&self.permits, most)) else {
            return response;
        };
        let len = match &response.body {
            WireBody::Bytes(bytes) => Some(bytes.len()),
            _ => None,
        };
        let compressor = match Compressor::new(coding, self.level, len) {
            Ok(compressor) => compressor,
            Err(error) => {
                log::error!("a response is not compressed: {error}");
                return response;
            }
        };
        weaken(&mut response);
        response.remove(&header::ACCEPT_RANGES);
        // The handler's length is that of the uncompressed bytes.
        response.remove(&header::CONTENT_LENGTH);
        let name = HeaderValue::from_static(coding.name());
        response.insert(header::CONTENT_ENCODING, name);
        let body = std::mem::replace(&mut response.body, WireBody::Nothing);
        if request.method != Method::HEAD {
            response.body = WireBody::Boxed(BoxBody::new(CompressedBody {
                body: body.boxed(),
                compressor: Some(compressor),
                work: None,
                is_whole: len.is_some(),
                is_unflushed: false,
                _permit: permit,
            }));
        }
        response
    }
}

/// The coding that a response to this request would have.
fn chosen(request: &WireRequest) -> Option<Coding> {
    let names = CODINGS.map(Coding::name);
    let accepted = encoding::accepted(&request.head, &names);
    let first = accepted.first()?;
    CODINGS.into_iter().find(|coding| coding.name() == *first)
}

/// Adds `Vary`: a cache must know that other clients get other bytes.
fn add_vary<B>(response: &mut Response<B>) {
    let mut lines = response
        .headers
        .iter()
        .filter(|(name, _)| *name == header::VARY);
    if !lines.any(|(_, value)| *value == VARY_VALUE) {
        response.append(header::VARY, VARY_VALUE);
    }
}

/// Makes the tag a weak one, because the bytes change (RFC 9110, section 8.8.3.3).
fn weaken<B>(response: &mut Response<B>) {
    let tag = response.text(&header::ETAG);
    let weak = tag.map(|tag| HeaderValue::try_from(format!("W/{}", tag.trim_start_matches("W/"))));
    if let Some(Ok(weak)) = weak {
        response.insert(header::ETAG, weak);
    }
}

/// Whether the content is text that is not compressed yet, and may be transformed.
fn may_be_compressed<B>(response: &Response<B>) -> bool {
    let control = response.text(&header::CACHE_CONTROL);
    let asks_not_to = control.is_some_and(|it| it.contains("no-transform"));
    if asks_not_to || response.has(&header::CONTENT_ENCODING) {
        return false;
    }
    let Some(kind) = response.text(&header::CONTENT_TYPE) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let kind = kind.to_ascii_lowercase();
    kind.starts_with("text/") && kind != "text/event-stream"
        || ["json", "javascript", "xml", "wasm", "manifest"]
            .iter()
            .any(|end| kind.ends_with(end))
}

/// The right to use one of the compressors.
struct CompressorPermit(Rc<Cell<usize>>);

impl CompressorPermit {
    fn take(taken: &Rc<Cell<usize>>, most: usize) -> Option<Self> {
        if taken.get() >= most {
            return None;
        }
        taken.set(taken.get() + 1);
        Some(Self(Rc::clone(taken)))
    }
}

impl Drop for CompressorPermit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A body that passes through a compressor.
struct CompressedBody {
    body: BoxBody,
    /// None: a thread uses it, or it has finished.
    compressor: Option<Compressor>,
    /// The thread that compresses a large chunk.
    work: Option<JoinHandle<io::Result<CompressorStep>>>,
    /// The body is one chunk.
    is_whole: bool,
    /// The compressor may hold more than it has returned.
    is_unflushed: bool,
    _permit: CompressorPermit,
}

/// The result of compressing a chunk: the compressor, unless it has finished, and its output.
type CompressorStep = (Option<Compressor>, Bytes);

/// Compresses a chunk. Finishes the output if it is the last one.
fn step(mut compressor: Compressor, chunk: &[u8], is_last: bool) -> io::Result<CompressorStep> {
    compressor.write(chunk)?;
    if is_last {
        return Ok((None, compressor.finish()?));
    }
    let out = compressor.take();
    Ok((Some(compressor), out))
}

impl CompressedBody {
    /// The next bytes for the client. None: the body has ended.
    fn poll_step(
        &mut self,
        task: &mut Context<'_>,
    ) -> Poll<Result<Option<CompressorStep>, BoxError>> {
        if let Some(work) = &mut self.work {
            let done = ready!(Pin::new(work).poll(task));
            self.work = None;
            return Poll::Ready(Ok(Some(done??)));
        }
        let Some(mut compressor) = self.compressor.take() else {
            return Poll::Ready(Ok(None));
        };
        let next = Pin::new(&mut self.body).poll_next(task);
        Poll::Ready(Ok(Some(match next {
            Poll::Ready(Some(chunk)) => {
                let (chunk, is_whole) = (chunk?, self.is_whole);
                self.is_unflushed |= !chunk.is_empty();
                if chunk.len() >= IN_PLACE_BYTES {
                    self.work = Some(spawn_blocking(move || step(compressor, &chunk, is_whole)));
                    return self.poll_step(task);
                }
                step(compressor, &chunk, is_whole)?
            }
            Poll::Ready(None) => (None, compressor.finish()?),
            Poll::Pending => {
                if std::mem::take(&mut self.is_unflushed) {
                    compressor.flush()?;
                }
                let out = compressor.take();
                if out.is_empty() {
                    self.compressor = Some(compressor);
                    return Poll::Pending;
                }
                (Some(compressor), out)
            }
        })))
    }
}

impl MessageBody for CompressedBody {
    type Error = BoxError;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        loop {
            match ready!(self.poll_step(task)) {
                Ok(Some((compressor, out))) => {
                    self.compressor = compressor;
                    if !out.is_empty() {
                        return Poll::Ready(Some(Ok(out)));
                    }
                }
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

/// A stream that pauses now and then. Otherwise its compressor would consume chunks as long as there are any, and
/// neither send anything nor let other tasks run.
struct YieldingBody {
    body: BoxBody,
    /// Bytes since the last pause.
    taken: usize,
}

impl MessageBody for YieldingBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.taken >= TURN_BYTES {
            self.taken = 0;
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.body).poll_next(task);
        match &next {
            Poll::Ready(Some(Ok(chunk))) => self.taken += chunk.len(),
            _ => self.taken = 0,
        }
        next
    }
}
