//! The first step of an accepted connection: it decides between TLS and plain text, and between HTTP/1 and HTTP/2.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use super::tls::accept::{Acceptor, chose_http2};
use super::worker::HttpWorker;
use super::{http1, http2};
use crate::actors::shutdown::Shutdown;

/// A connection that was accepted.
pub(super) struct NewConnection {
    pub(super) stream: TcpStream,
    /// None on a Unix socket.
    pub(super) peer: Option<SocketAddr>,
    /// Held as long as the connection speaks HTTP, or tries to.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Serves a connection without TLS: HTTP/1.
pub(super) async fn serve_plain(worker: Rc<HttpWorker>, connection: NewConnection) {
    let _permit = connection.permit;
    http1::driver::serve(worker, connection.stream, connection.peer).await;
}

/// Serves a connection with TLS: HTTP/1 or HTTP/2, as the client chooses.
pub(super) async fn serve_secure(
    worker: Rc<HttpWorker>,
    acceptor: Rc<Acceptor>,
    connection: NewConnection,
) {
    let _permit = connection.permit;
    let peer = connection.peer;
    let shutdown = worker.shutdown.clone();
    // Boxed, so that a connection reserves memory for one protocol only.
    let handshake = Box::pin(async {
        tokio::select! {
            biased;
            stream = acceptor.accept(connection.stream) => stream,
            () = handshake_grace_is_over(shutdown) => None,
        }
    });
    let Some(stream) = handshake.await else {
        return;
    };
    if chose_http2(&stream) {
        Box::pin(http2::connection::serve(worker, stream, peer)).await;
    } else {
        Box::pin(http1::driver::serve(worker, stream, peer)).await;
    }
}

/// A client that is in the TLS handshake at shutdown has this long to finish it. The server cannot send it anything
/// earlier.
const LATE_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(1);

async fn handshake_grace_is_over(mut shutdown: Shutdown) {
    shutdown.wait().await;
    sleep(LATE_HANDSHAKE_TIMEOUT).await;
}
