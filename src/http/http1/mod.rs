//! HTTP/1 (RFC 9112): a connection reads a request, sends its response, and only then reads the next request.
//!
//! `httparse` parses names and values; the framing of requests and responses is done here. Parser, chunk decoder
//! and encoder work on plain bytes; only the connection has a socket.

pub(super) mod body;
mod body_buffer;
pub mod chunked;
mod connection;
pub(super) mod direct;
pub(super) mod driver;
mod encode;
mod exchange;
pub mod fields;
pub mod head_error;
pub(super) mod output;
pub mod parse;
mod respond;
mod target;
mod version;
