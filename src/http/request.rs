//! A request, as it travels to user code on another thread.

use actix_http::{Method, RequestHead};
use bytes::Bytes;

use super::form::Part;
use super::head::Head;
use super::proxies::Origin;

/// See the module's documentation.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path, query, headers, and who sent them.
    pub head: Head,
    /// The whole body.
    pub body: Body,
}

/// A body, as far as it is understood before user code asks.
#[derive(Debug)]
pub enum Body {
    /// As it came.
    Bytes(Bytes),
    /// A multipart form, taken apart.
    Form(Vec<Part>),
}

impl Request {
    /// Copies what user code may ask for.
    pub fn new(head: &RequestHead, origin: Origin, body: Body) -> Self {
        Self {
            method: head.method.clone(),
            head: Head::new(head, origin),
            body,
        }
    }
}
