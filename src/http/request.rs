//! A request, as it travels to user code on another thread.

use std::net::SocketAddr;

use actix_http::header::HeaderMap;
use actix_http::{Method, RequestHead};
use bytes::Bytes;

/// See the module's documentation.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path as it was sent, percent-encoded.
    pub path: String,
    /// What follows the `?`, percent-encoded, without it. Empty when there is none.
    pub query: String,
    /// The headers. Several values of one name are kept.
    pub headers: HeaderMap,
    /// The other end of the TCP connection: a proxy, if there is one.
    pub peer: Option<SocketAddr>,
    /// The whole body.
    pub body: Bytes,
}

impl Request {
    /// Copies what user code may ask for.
    pub fn new(head: &RequestHead, body: Bytes) -> Self {
        Self {
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers().clone(),
            peer: head.peer_addr,
            body,
        }
    }
}
