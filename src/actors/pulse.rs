//! Signs of life of a worker's I/O thread, for whoever decides whether the worker is well, or has
//! done enough.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters that only grow. Nothing is ordered by them.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: AtomicU64,
    requests: AtomicU64,
}

impl Pulse {
    /// The I/O thread has come round once more.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Relaxed);
    }

    /// A request has come; a WebSocket's handshake is one, too.
    pub fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// How often the I/O thread has come round. It stands still only if the thread does.
    pub fn beats(&self) -> u64 {
        self.beats.load(Relaxed)
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}
