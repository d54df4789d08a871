//! HTTP/2 (RFC 9113), over TLS only: the frames are the crate `h2`'s, the limits are ours.

pub(super) mod body;
pub(super) mod connection;
mod head;
mod respond;
mod window;
