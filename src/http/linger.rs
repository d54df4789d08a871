//! How long a connection without a request is kept when its worker ends.
//!
//! A client that is about to ask cannot know of the end: HTTP/1 has no farewell that comes ahead of an
//! answer. It is answered, with `Connection: close`, as long as there is somebody to do so.

use std::cell::Cell;
use std::future::Future;
use std::os::fd::RawFd;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};
use tokio::time::{Instant, sleep, sleep_until};

use crate::actors::shutdown::{Ending, Shutdown};

/// A connection that has not brought any request yet is kept for at least so long: it was opened in
/// order to.
const FOR_THE_FIRST: Duration = Duration::from_secs(2);

/// How often is looked again after a client that has begun to send. Longer than a turn.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What is known of the connection that a task drives.
struct Driven {
    /// Whether it has brought a request.
    has_asked: Cell<bool>,
    /// Open as long as the connection speaks HTTP.
    socket: RawFd,
}

tokio::task_local! {
    static DRIVEN: Driven;
}

/// Drives a connection on this socket, and remembers for [`over`].
pub(super) fn on_connection<F: Future>(
    socket: RawFd,
    connection: F,
) -> impl Future<Output = F::Output> {
    let driven = Driven {
        has_asked: Cell::new(false),
        socket,
    };
    DRIVEN.scope(driven, connection)
}

/// This task's connection has brought a request.
pub(super) fn asked() {
    let _ = DRIVEN.try_with(|driven| driven.has_asked.set(true));
}

/// Resolves when this task's connection, if no request is running on it, may be closed because the
/// worker ends. At most half of the grace time goes by, unless a client is sending.
pub(super) async fn over(mut shutdown: Shutdown) {
    let Ending { grace, linger } = shutdown.wait().await;
    let begun = Instant::now();
    // At least until nobody listens here any more: who connects anew shall not come here again.
    sleep(linger.min(grace / 2).max(LOOK_AGAIN)).await;
    if !DRIVEN.with(|driven| driven.has_asked.get()) {
        sleep_until(begun + linger.max(FOR_THE_FIRST).min(grace / 2)).await;
    }
    while DRIVEN.with(|driven| has_input(driven.socket)) {
        sleep(LOOK_AGAIN).await;
    }
}

/// Has the client sent what nobody has read yet?
fn has_input(socket: RawFd) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    matches!(recv(socket, &mut [0], flags), Ok(1..))
}
