//! The acceptor that turns a TCP connection into a TLS connection within a time limit. Clients that speak plain
//! HTTP get a response that explains the error.

use std::io;
use std::time::Duration;

use actix_http::StatusCode;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::files::Tls;
use crate::http::lingering_close;
use crate::http::websocket::handshake::Refusal;

/// The name of HTTP/2 in ALPN.
const HTTP2: &[u8] = b"h2";

/// The acceptor of one server.
#[derive(Clone)]
pub(in crate::http) struct Acceptor {
    tls: TlsAcceptor,
    limit: Duration,
}

impl Acceptor {
    /// A client has `limit` for the whole handshake.
    pub(in crate::http) fn new(tls: Tls, limit: Duration) -> Self {
        let tls = TlsAcceptor::from(tls.config);
        Self { tls, limit }
    }

    /// Performs a handshake. A client that fails is disconnected without a log message: clients fail all the time,
    /// and could fill the log.
    pub(in crate::http) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let handshake = async {
            if speaks_plain(&stream).await? {
                lingering_close::respond_and_close(stream, plain_refusal());
                return Ok(None);
            }
            self.tls.accept(stream).await.map(Some)
        };
        let accepted: io::Result<_> = timeout(self.limit, handshake).await.ok()?;
        accepted.ok()?
    }
}

/// Whether the client has chosen HTTP/2.
pub(in crate::http) fn chose_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}

/// Whether the client's input begins with a letter, as a method does. A TLS record never does (RFC 8446, section
/// 5.1).
async fn speaks_plain(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let count = stream.peek(&mut first).await?;
    Ok(count == 1 && first[0].is_ascii_alphabetic())
}

fn plain_refusal() -> Vec<u8> {
    let sentence = "This port speaks HTTPS: use https:// or wss:// to reach it.\n";
    let mut response = Vec::new();
    Refusal::new(StatusCode::BAD_REQUEST, sentence).write(&mut response);
    response
}
