//! The request, as a connection reads it, and as user code on another thread gets it.

use std::sync::Arc;

use actix_http::Method;
use bytes::Bytes;

use super::form::Part;
use super::head::Head;
use super::payload::Payload;
use super::upload::Upload;

/// A request whose body is not read yet.
#[derive(Debug)]
pub(super) struct WireRequest {
    /// The method.
    pub(super) method: Method,
    /// Path, query, headers, and the address of the client.
    pub(super) head: Arc<Head>,
    /// The body.
    pub(super) payload: Payload,
}

/// A request for user code.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path, query, headers, and the address of the client.
    pub head: Arc<Head>,
    /// The body.
    pub body: RequestContent,
}

/// The body of a request, as its endpoint wants it.
#[derive(Debug)]
pub enum RequestContent {
    /// The bytes of the body.
    Bytes(Bytes),
    /// The parts of a multipart form.
    Form(Vec<Part>),
    /// A stream that user code reads in chunks.
    Stream(Upload),
}

impl Default for RequestContent {
    /// An empty body.
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl Request {
    /// A request without a body.
    pub fn new(method: Method, head: Arc<Head>) -> Self {
        Self {
            method,
            head,
            body: RequestContent::default(),
        }
    }
}
