//! TLS by rustls: the files that it needs, the handshake, and the socket that a session runs on.
//!
//! Requests run on `tokio-rustls`, as HTTP does everywhere. A session takes the connection out of it,
//! because its two halves are used by two owners that never wait.

pub mod accept;
pub mod files;
pub mod socket;
