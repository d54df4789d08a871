//! HTTP/1 (RFC 9112): one request is decoded, answered, and only then the next.
//!
//! `httparse` reads names and values; the framing of requests and responses is ours. Parsing, chunks and
//! encoding work on plain bytes; only the connection knows a socket.

mod body;
pub mod chunked;
mod connection;
mod direct;
mod encode;
mod exchange;
mod fields;
mod output;
pub mod parse;
mod respond;
mod target;
mod version;

pub(super) use body::Stream;
#[cfg(test)]
pub(super) use body::TestFeed;
pub(super) use connection::serve;
pub(super) use direct::DirectWriter;
#[cfg(test)]
pub(super) use output::Output;
