//! The response that user code and routes return, and the one that goes to the client.

use std::path::PathBuf;

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::header::{self, HeaderName, HeaderValue};
use actix_web::http::StatusCode;
use bytes::Bytes;

use super::event_stream::EventStream;
use super::file_body::FileBody;
use super::stream_body::StreamBody;
use super::trailers::TrailerSlot;

/// A complete response.
#[derive(Debug)]
pub struct Response<B = ResponseBody> {
    /// The status.
    pub status: StatusCode,
    /// `Content-Type`, unless it is among the headers.
    pub content_type: Option<HeaderValue>,
    /// Further headers. Several values of one name are sent as several lines.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: B,
    /// The slot for the trailers, which are there at the end of the body. None: the response has no trailers.
    pub trailers: Option<TrailerSlot>,
}

/// The body of a response, as user code gives it.
#[derive(Debug)]
pub enum ResponseBody {
    /// The complete body.
    Bytes(Bytes),
    /// A stream that user code produces while it is sent.
    Stream(StreamBody),
    /// A file. The request may select a part of it.
    File(PathBuf),
    /// The messages of a topic, from now on.
    Events(Box<EventStream>),
}

/// The body of a response on the I/O thread, ready to be sent.
#[derive(Debug)]
pub(super) enum WireBody {
    /// No body: the response to HEAD, or one without content.
    Nothing,
    /// The complete body.
    Bytes(Bytes),
    /// A stream that user code produces while it is sent.
    Stream(StreamBody),
    /// A part of a file.
    File(FileBody),
    /// An event stream, or the output of a compressor.
    Boxed(BoxBody),
}

/// A response that is ready to be sent.
pub(super) type WireResponse = Response<WireBody>;

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Bytes> for WireBody {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl WireBody {
    /// The size of the body.
    pub(super) fn size(&self) -> BodySize {
        match self {
            Self::Nothing => BodySize::None,
            Self::Bytes(bytes) => BodySize::Sized(bytes.len() as u64),
            Self::Stream(_) => BodySize::Stream,
            Self::File(file) => file.size(),
            Self::Boxed(body) => body.size(),
        }
    }

    /// The body as one type.
    pub(super) fn boxed(self) -> BoxBody {
        match self {
            Self::Nothing => BoxBody::new(()),
            Self::Bytes(bytes) => BoxBody::new(bytes),
            Self::Stream(stream) => BoxBody::new(stream),
            Self::File(file) => BoxBody::new(file),
            Self::Boxed(body) => body,
        }
    }
}

/// `Content-Type` of plain text.
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// `Content-Type` of JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Response<()> {
    /// A head without a body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            content_type: None,
            headers: Vec::new(),
            body: (),
            trailers: None,
        }
    }
}

impl<B: From<Bytes>> Response<B> {
    /// A response without content.
    pub fn without_content(status: StatusCode) -> Self {
        Response::empty(status).with_body(Bytes::new().into())
    }

    /// A plain-text response with one sentence.
    pub fn sentence(status: StatusCode, sentence: impl Into<String>) -> Self {
        let mut body = sentence.into();
        body.push('\n');
        let mut response = Response::empty(status).with_body(Bytes::from(body).into());
        response.content_type = Some(TEXT);
        response
    }
}

impl<B> Response<B> {
    /// Splits off the body.
    pub(super) fn split(self) -> (B, Response<()>) {
        let Self {
            status,
            content_type,
            headers,
            body,
            trailers,
        } = self;
        let head = Response {
            status,
            content_type,
            headers,
            body: (),
            trailers,
        };
        (body, head)
    }

    /// Replaces the body.
    pub(super) fn with_body<C>(self, body: C) -> Response<C> {
        Response {
            status: self.status,
            content_type: self.content_type,
            headers: self.headers,
            body,
            trailers: self.trailers,
        }
    }

    /// Removes the trailers and their announcement.
    pub(super) fn drop_trailers(&mut self) {
        if self.trailers.take().is_some() {
            self.remove(&header::TRAILER);
        }
    }

    /// Adds a header line.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.append(name, value);
        self
    }

    /// The first value of a header.
    pub(super) fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        if *name == header::CONTENT_TYPE && self.content_type.is_some() {
            return self.content_type.as_ref();
        }
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value)
    }

    /// The first value of a header, if it is text.
    pub(super) fn text(&self, name: &HeaderName) -> Option<&str> {
        self.get(name)?.to_str().ok()
    }

    /// Whether the response has such a header.
    pub(super) fn has(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// Adds a header line, in addition to those of the same name.
    pub(super) fn append(&mut self, name: HeaderName, value: HeaderValue) {
        if name == header::CONTENT_TYPE {
            self.content_type = Some(value);
        } else {
            self.headers.push((name, value));
        }
    }

    /// Replaces the header lines of this name.
    pub(super) fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        self.remove(&name);
        self.append(name, value);
    }

    /// Removes the header lines of this name.
    pub(super) fn remove(&mut self, name: &HeaderName) {
        if *name == header::CONTENT_TYPE {
            self.content_type = None;
        }
        self.headers.retain(|(other, _)| other != name);
    }
}
