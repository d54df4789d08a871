//! The drain of keep-alive connections: how long a connection without a running request stays open when its worker
//! ends.
//!
//! A client that is about to send a request cannot know that the worker ends: HTTP/1 has no message for this before
//! a response. So the worker still responds to such requests, with `Connection: close`, as long as it runs.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::deadlines::Deadlines;
use crate::actors::shutdown::{Ending, Shutdown};

/// A new connection stays open at least this long, because its client opened it to send a request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// No connection is closed sooner than this after the signal: the listener closes first.
const MIN_DELAY: Duration = Duration::from_millis(10);

/// Which connections without a running request may be closed.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum DrainPhase {
    /// None: the worker serves, or its end has just begun.
    #[default]
    Serving,
    /// Connections that have received a request before.
    ClosingUsed,
    /// All connections.
    ClosingAll,
}

/// The drain of a worker's connections.
#[derive(Debug, Default)]
pub(super) struct KeepAliveDrain(Cell<DrainPhase>);

impl KeepAliveDrain {
    /// Whether a connection without a running request and without input may be closed. `has_received_request`: it
    /// has received a request before.
    pub(super) fn may_close(&self, has_received_request: bool) -> bool {
        match self.0.get() {
            DrainPhase::Serving => false,
            DrainPhase::ClosingUsed => has_received_request,
            DrainPhase::ClosingAll => true,
        }
    }

    /// Waits for the worker's end. Then it moves through the phases, and wakes the connections at each.
    pub(super) async fn run(self: Rc<Self>, mut shutdown: Shutdown, deadlines: Rc<Deadlines>) {
        let Ending { grace, linger } = shutdown.wait().await;
        let began = Instant::now();
        // A client that connects again must not reach this worker.
        sleep(linger.min(grace / 2).max(MIN_DELAY)).await;
        self.0.set(DrainPhase::ClosingUsed);
        deadlines.wake_all();
        sleep_until(began + linger.max(FIRST_REQUEST_TIMEOUT).min(grace / 2)).await;
        self.0.set(DrainPhase::ClosingAll);
        deadlines.wake_all();
    }
}
