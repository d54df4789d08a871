//! How long a connection without a request stays open when its worker ends.
//!
//! A client that is about to send a request cannot know that the worker ends: HTTP/1 has no message for it
//! that could come before a response. So the request is answered, with `Connection: close`, as long as the
//! worker is there.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::deadlines::Deadlines;
use crate::actors::shutdown::{Ending, Shutdown};

/// A connection that has not brought any request yet stays at least so long: it was opened to bring one.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Nothing is closed sooner than this after the signal: the listener closes first.
const MIN_DELAY: Duration = Duration::from_millis(10);

/// Which connections without a request may be closed because the worker ends.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum DrainPhase {
    /// None: the worker serves, or has just begun to end.
    #[default]
    Serving,
    /// Those that have brought a request before.
    ClosingUsed,
    /// All.
    ClosingAll,
}

/// The patience of a worker.
#[derive(Debug, Default)]
pub(super) struct KeepAliveDrain(Cell<DrainPhase>);

impl KeepAliveDrain {
    /// May a connection be closed on which no request is running, and nothing has come? `has_received_request`: it has
    /// brought a request before.
    pub(super) fn may_close(&self, has_received_request: bool) -> bool {
        match self.0.get() {
            DrainPhase::Serving => false,
            DrainPhase::ClosingUsed => has_received_request,
            DrainPhase::ClosingAll => true,
        }
    }

    /// Waits for the worker's end, and then for the times at which connections may close; wakes them.
    pub(super) async fn run(self: Rc<Self>, mut shutdown: Shutdown, deadlines: Rc<Deadlines>) {
        let Ending { grace, linger } = shutdown.wait().await;
        let began = Instant::now();
        // A client that opens another connection must not come to this worker again.
        sleep(linger.min(grace / 2).max(MIN_DELAY)).await;
        self.0.set(DrainPhase::ClosingUsed);
        deadlines.wake_all();
        sleep_until(began + linger.max(FIRST_REQUEST_TIMEOUT).min(grace / 2)).await;
        self.0.set(DrainPhase::ClosingAll);
        deadlines.wake_all();
    }
}
