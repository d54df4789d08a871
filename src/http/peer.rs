//! The peer that a request comes from: its address, and whether it speaks TLS.

use std::net::SocketAddr;

/// The other end of a connection, or the client that a trusted proxy reports.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// The address. None: the connection is a Unix socket. The port is 0 if a proxy did not report it.
    pub address: Option<SocketAddr>,
    /// The client speaks TLS, to this server or to the proxy.
    pub is_secure: bool,
}
