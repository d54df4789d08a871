//! What user code answers an HTTP request with.

use std::path::PathBuf;

use actix_http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, http::StatusCode};
use bytes::Bytes;

use super::events::EventStream;
use super::flow::Flow;

/// A whole response.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// `Content-Type`, unless it is among the headers.
    pub content_type: Option<HeaderValue>,
    /// Headers besides it. Several values of one name are sent as several lines.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Body,
}

/// What a response has to say.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Bytes(Bytes),
    /// What user code makes while it is sent.
    Flow(Flow),
    /// A file, or as much of it as the client asks for.
    File(PathBuf),
    /// What is published to a topic, from now on.
    Events(Box<EventStream>),
}

/// `Content-Type` of plain text.
pub const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// `Content-Type` of JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

impl Response {
    /// A plain-text response of one sentence.
    pub fn sentence(status: StatusCode, sentence: impl Into<String>) -> Self {
        let mut body = sentence.into();
        body.push('\n');
        let (content_type, headers) = (Some(TEXT), Vec::new());
        Self {
            status,
            content_type,
            headers,
            body: Body::Bytes(body.into()),
        }
    }

    /// Adds a header line.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// As actix-web sends it. Files and event streams are not for here: see [`super::sending`] and
    /// [`super::events`].
    pub fn into_http(self) -> HttpResponse {
        let mut builder = HttpResponse::build(self.status);
        if let Some(content_type) = self.content_type {
            builder.insert_header((header::CONTENT_TYPE, content_type));
        }
        for header in self.headers {
            builder.append_header(header);
        }
        match self.body {
            Body::Bytes(bytes) => builder.body(bytes),
            Body::Flow(flow) => builder.body(flow),
            Body::File(_) | Body::Events(_) => builder.finish(),
        }
    }
}
