//! The lingering close of a connection: the last response is sent, and the input is read until the client closes.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// A refused client has this long to read the response.
pub(super) const LINGERING_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the response and closes, in a small task of its own. Input that still arrives is read: if a socket is
/// dropped with unread input, TCP resets the connection, and the response is lost.
pub(super) fn respond_and_close(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    response: Vec<u8>,
) {
    let closing = async move {
        // A client that has disconnected needs no response.
        if stream.write_all(&response).await.is_err()
            || stream.flush().await.is_err()
            || stream.shutdown().await.is_err()
        {
            return;
        }
        let mut ignored = [0; 1024];
        while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
    };
    tokio::task::spawn_local(timeout(LINGERING_TIMEOUT, closing));
}
