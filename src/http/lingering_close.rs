//! The last answer on a connection that is not served any further.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// A refused client has this long to read the answer.
pub(super) const LINGERING_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends the answer and closes, in a small task of its own. What the client still sends is read: a
/// socket dropped with unread input is reset, and takes the answer with it.
pub(super) fn respond_and_close(
    mut stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    answer: Vec<u8>,
) {
    let answered = async move {
        // A client that has gone does not miss the answer.
        if stream.write_all(&answer).await.is_err()
            || stream.flush().await.is_err()
            || stream.shutdown().await.is_err()
        {
            return;
        }
        let mut ignored = [0; 1024];
        while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
    };
    tokio::task::spawn_local(timeout(LINGERING_TIMEOUT, answered));
}
