//! TLS by rustls: the files, the handshake, and the socket of a session.
//!
//! Requests run on `tokio-rustls`, like most HTTP servers. A session takes the connection out of it, because its
//! two halves have two owners that never wait for each other.

pub mod accept;
pub mod files;
pub mod socket;
