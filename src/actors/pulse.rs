//! The pulse that a worker's I/O thread shows to the code that decides whether the worker is well, or has handled
//! enough requests.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Counters that only grow, and a flag that is set once. They order no other memory access.
#[derive(Debug, Default)]
pub struct Pulse {
    beats: AtomicU64,
    requests: AtomicU64,
    has_stopped_listening: AtomicBool,
}

impl Pulse {
    /// The I/O thread has completed one more round.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Relaxed);
    }

    /// A request has come; a WebSocket's handshake counts as one, too.
    pub fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// This process has closed its listener.
    pub fn stop_listening(&self) {
        self.has_stopped_listening.store(true, Relaxed);
    }

    /// The rounds of the I/O thread so far. The number stands still only if the thread does.
    pub fn beats(&self) -> u64 {
        self.beats.load(Relaxed)
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Has the listener been closed?
    pub fn has_stopped_listening(&self) -> bool {
        self.has_stopped_listening.load(Relaxed)
    }
}
