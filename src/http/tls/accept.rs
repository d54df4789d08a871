//! From a TCP connection to a TLS one, within a time. Whoever speaks plain HTTP here is told so.

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

/// What ALPN calls HTTP/2.
const HTTP2: &[u8] = b"h2";

/// Handshakes of one server.
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

    /// A client that fails is closed, and nobody is told: clients fail all the time, and a log that
    /// they can fill is of no use.
    pub(in crate::http) async fn accept(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let shaken = async {
            if speaks_plain(&stream).await? {
                lingering_close::respond_and_close(stream, plain_refusal());
                return Ok(None);
            }
            self.tls.accept(stream).await.map(Some)
        };
        let shaken: io::Result<_> = timeout(self.limit, shaken).await.ok()?;
        shaken.ok()?
    }
}

/// Has the client chosen HTTP/2?
pub(in crate::http) fn chose_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP2)
}

/// Does the client begin with a letter, as a method does? A TLS record never does (RFC 8446, 5.1).
async fn speaks_plain(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let count = stream.peek(&mut first).await?;
    Ok(count == 1 && first[0].is_ascii_alphabetic())
}

fn plain_refusal() -> Vec<u8> {
    let sentence = "This port speaks HTTPS: use https:// or wss:// to reach it.\n";
    let mut answer = Vec::new();
    Refusal::new(StatusCode::BAD_REQUEST, sentence).write(&mut answer);
    answer
}
