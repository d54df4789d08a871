//! HTTP/2 (RFC 9113), over TLS only. The crate `h2` handles the frames; the limits are set here.

pub(super) mod body;
pub(super) mod connection;
mod head;
mod respond;
mod window;
