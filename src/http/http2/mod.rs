//! HTTP/2 (RFC 9113), over TLS only: the frames are the crate `h2`'s, the limits are ours.

mod body;
mod connection;
mod head;
mod respond;
mod window;

pub(super) use body::Body;
pub(super) use connection::serve;
