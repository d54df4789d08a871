//! The count of the sessions with hooks that Python holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::http::config::Config;

/// Sessions that hooks may observe in one worker: all that the worker can have open, and some that are closed and
/// whose hooks have not returned yet.
const MAX_SESSIONS: usize = Config::MAX_WEBSOCKETS + 4096;

/// How many sessions with hooks Python holds.
#[derive(Default)]
pub(super) struct SessionCount(AtomicUsize);

impl SessionCount {
    /// May there be one more?
    pub(super) fn has_capacity(&self) -> bool {
        // A count that is old by a moment is as good: the mailbox bounds the sessions that are on their way here.
        self.0.load(Relaxed) < MAX_SESSIONS
    }

    /// Counts a session until the result is dropped.
    pub(super) fn add(self: &Arc<Self>) -> SessionCountGuard {
        self.0.fetch_add(1, Relaxed);
        SessionCountGuard(Arc::clone(self))
    }
}

/// Counts one session as long as it exists.
pub(super) struct SessionCountGuard(Arc<SessionCount>);

impl Drop for SessionCountGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}
