//! A request: as it came off the wire, and as it travels to user code on another thread.

use std::sync::Arc;

use actix_http::Method;
use bytes::Bytes;

use super::form::Part;
use super::head::Head;
use super::payload::Payload;
use super::upload::Upload;

/// A request whose body has not been read yet.
#[derive(Debug)]
pub(super) struct WireRequest {
    /// The method.
    pub(super) method: Method,
    /// Path, query, headers, and the address of the client.
    pub(super) head: Arc<Head>,
    /// What follows the head.
    pub(super) payload: Payload,
}

/// A request for user code.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path, query, headers, and the address of the client.
    pub head: Arc<Head>,
    /// The whole body.
    pub body: RequestContent,
}

/// A body, as far as it is understood before user code asks.
#[derive(Debug)]
pub enum RequestContent {
    /// As it came.
    Bytes(Bytes),
    /// A multipart form, taken apart.
    Form(Vec<Part>),
    /// User code reads it piece by piece.
    Stream(Upload),
}

impl Default for RequestContent {
    /// An empty one.
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
