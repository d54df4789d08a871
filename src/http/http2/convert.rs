//! A request of `h2` as `actix-http` knows requests, and the bound on what a connection's bodies hold.
//!
//! The two crates use two generations of the same types.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::error::PayloadError;
use actix_http::header::{HOST, HeaderName, HeaderValue};
use actix_http::{BoxedPayloadStream, HttpMessage as _, Method, Payload, Request, Uri, Version};
use bytes::Bytes;
use futures_core::Stream;
use h2::{Reason, RecvStream};
use tokio::time::timeout;

use crate::http::farewell::LINGER;
use crate::http::incoming::Share;

/// What the bodies of one connection's requests hold together, up to a limit. Above it a request gets
/// 503: one connection must not hold as much as a hundred may.
#[derive(Clone)]
pub(super) struct Bodies {
    held: Rc<Cell<usize>>,
    most: usize,
}

impl Bodies {
    /// None hold anything yet.
    pub(super) fn new(most: usize) -> Self {
        let held = Rc::default();
        Self { held, most }
    }

    /// A request holds so much less.
    fn release(&self, own: &Own, bytes: usize) {
        let bytes = bytes.min(own.held.get());
        own.held.set(own.held.get() - bytes);
        self.held.set(self.held.get() - bytes);
    }
}

/// A request, and what has to live until it is answered.
pub(super) struct Converted {
    pub(super) request: Request,
    pub(super) kept: Kept,
}

/// The share of one request in [`Bodies`], given back when it is dropped.
pub(super) struct Kept {
    bodies: Bodies,
    own: Rc<Own>,
}

/// What one request has.
#[derive(Default)]
struct Own {
    held: Cell<usize>,
    /// The rest of a body that nobody read to its end.
    rest: RefCell<Option<RecvStream>>,
}

impl Kept {
    /// Reads what the client still sends of a body that nobody wants, for a moment. It may stop at once
    /// (RFC 9113, section 8.1), but many clients look at the response only when they have sent all, and
    /// some lose it when their stream is reset behind it.
    pub(super) async fn read_rest(&self) {
        let Some(mut stream) = self.own.rest.take() else {
            return;
        };
        let read = poll_fn(|task| {
            while let Some(Ok(chunk)) = ready!(stream.poll_data(task)) {
                // A stream that is gone has no window to open again.
                let _ = stream.flow_control().release_capacity(chunk.len());
            }
            Poll::Ready(())
        });
        // Who is not done then has had the time to read.
        let _ = timeout(LINGER, read).await;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.bodies.release(&self.own, usize::MAX);
    }
}

/// None: nothing that a request may be.
pub(super) fn request(
    request: http::Request<RecvStream>,
    peer: Option<SocketAddr>,
    bodies: &Bodies,
) -> Option<Converted> {
    let (parts, stream) = request.into_parts();
    let own = Rc::<Own>::default();
    let payload: Payload<BoxedPayloadStream> = if stream.is_end_stream() {
        Payload::None
    } else {
        let (bodies, own) = (bodies.clone(), Rc::clone(&own));
        let stream = Some(stream);
        let payload = Box::pin(Body {
            stream,
            bodies,
            own,
        });
        Payload::Stream { payload }
    };
    let mut converted = Request::with_payload(payload);
    let share = (bodies.clone(), Rc::clone(&own));
    let share = Share::new(move |bytes| share.0.release(&share.1, bytes));
    converted.extensions_mut().insert(share);
    let head = converted.head_mut();
    head.method = Method::from_bytes(parts.method.as_str().as_bytes()).ok()?;
    head.uri = Uri::try_from(parts.uri.to_string()).ok()?;
    head.version = Version::HTTP_2;
    head.peer_addr = peer;
    for (name, value) in &parts.headers {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        head.headers
            .append(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    // Programs look for the host where HTTP/1.1 has it (RFC 9113, section 8.3.1).
    if let Some(authority) = parts.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        head.headers.insert(HOST, host);
    }
    let bodies = bodies.clone();
    Some(Converted {
        request: converted,
        kept: Kept { bodies, own },
    })
}

/// The body of a request, as it comes.
struct Body {
    /// Until it is dropped.
    stream: Option<RecvStream>,
    bodies: Bodies,
    own: Rc<Own>,
}

impl Drop for Body {
    fn drop(&mut self) {
        let rest = self.stream.take().filter(|stream| !stream.is_end_stream());
        *self.own.rest.borrow_mut() = rest;
    }
}

impl Stream for Body {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.stream else {
            return Poll::Ready(None);
        };
        let Some(chunk) = ready!(stream.poll_data(task)) else {
            return Poll::Ready(None);
        };
        let chunk = match chunk {
            Ok(chunk) => chunk,
            // The client has all that it wants to know, and does not send the rest (RFC 9113, 8.1).
            Err(error) if error.reason() == Some(Reason::NO_ERROR) => return Poll::Ready(None),
            Err(_) => return Poll::Ready(Some(Err(PayloadError::Incomplete(None)))),
        };
        let held = this.bodies.held.get() + chunk.len();
        if held > this.bodies.most {
            return Poll::Ready(Some(Err(PayloadError::Overflow)));
        }
        this.bodies.held.set(held);
        this.own.held.set(this.own.held.get() + chunk.len());
        // A stream that is gone has no window to open again.
        let _ = stream.flow_control().release_capacity(chunk.len());
        Poll::Ready(Some(Ok(chunk)))
    }
}
