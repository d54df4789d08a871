//! HTTP/1 (RFC 9112): one request is decoded, answered, and only then the next.
//!
//! `httparse` reads names and values; the framing of requests and responses is ours. Parsing, chunks and
//! encoding work on plain bytes; only the connection knows a socket.

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
