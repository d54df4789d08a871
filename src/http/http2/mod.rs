//! HTTP/2 (RFC 9113), over TLS only: the frames are the crate `h2`'s, the limits are ours.
//!
//! `actix-http` has a driver of its own, but it bounds neither the streams of a connection nor its
//! idle time, does not say goodbye at shutdown, and lets a client hold a response for ever.

mod connection;
mod convert;
mod respond;

pub(super) use connection::serve;
