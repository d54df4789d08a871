//! The memory that the outboxes of a worker use: the bytes that wait in all of them, and the messages dropped.
//!
//! A limit for each outbox does not limit a crowd of them. Only bytes that a socket has not taken at once are
//! counted, so a worker whose clients keep up counts nothing. A published message that waits in many queues is held
//! once, and counted once, for as long as any of them has it: a [`Gauge`] counts it. Each writer counts its other
//! bytes for itself. When the sum is too large, the hub closes the sessions with the largest outboxes.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;

/// A count of bytes that are held, shared by all holders.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.0.load(Relaxed)
    }

    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Relaxed);
    }

    pub(super) fn subtract(&self, bytes: usize) {
        let before = self.0.fetch_sub(bytes, Relaxed);
        debug_assert!(before >= bytes, "nothing is given back twice");
    }

    /// Counts these bytes until the last copy of the result is dropped.
    pub fn hold(&self, bytes: Bytes) -> Bytes {
        self.add(bytes.len());
        Bytes::from_owner(Counted {
            bytes,
            gauge: self.clone(),
        })
    }
}

struct Counted {
    bytes: Bytes,
    gauge: Gauge,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.subtract(self.bytes.len());
    }
}

/// The log reports at most once in this time that clients were closed.
const SILENCE: Duration = Duration::from_secs(10);

/// The memory for the outboxes of a worker. Shared by everything on a worker's I/O thread.
#[derive(Debug)]
pub struct Queues {
    most: usize,
    gauge: Gauge,
    /// Messages that overflow policies have dropped, and that are not counted on the bus yet.
    dropped: Cell<u64>,
    /// The time when the log last reported that clients were closed.
    logged: Cell<Option<Instant>>,
}

impl Default for Queues {
    /// Without a limit.
    fn default() -> Self {
        Self::new(usize::MAX, Gauge::default())
    }
}

impl Queues {
    /// At most `most` bytes may wait, all sessions added up. `gauge` counts them.
    pub fn new(most: usize, gauge: Gauge) -> Self {
        Self {
            most,
            gauge,
            dropped: Cell::default(),
            logged: Cell::default(),
        }
    }

    /// The gauge for bytes that many queues share.
    pub fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// Is the memory used up?
    pub fn is_over(&self) -> bool {
        self.gauge.held() > self.most
    }

    /// Is there capacity again? At least an eighth must be free, or the next message would exceed the limit at
    /// once.
    pub fn has_capacity(&self) -> bool {
        self.gauge.held() <= self.most - self.most / 8
    }

    /// An outbox alone costs `after` now, instead of `before`.
    pub(super) fn recount(&self, before: usize, after: usize) {
        if after > before {
            self.gauge.add(after - before);
        } else {
            self.gauge.subtract(before - after);
        }
    }

    /// An overflow policy has dropped messages of a session.
    pub(super) fn note_dropped(&self, messages: u64) {
        self.dropped.set(self.dropped.get() + messages);
    }

    /// Hub: the messages that were dropped since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.take()
    }

    /// Hub: logs that it had to close this many clients.
    pub(super) fn log_closed(&self, clients: usize) {
        let now = Instant::now();
        let is_new = |then| now.saturating_duration_since(then) >= SILENCE;
        if clients > 0 && self.logged.get().is_none_or(is_new) {
            self.logged.set(Some(now));
            log::warn!(
                "More than {} MiB waited for clients that do not read (--max-queue-memory): the {clients} \
                 with the most were closed with 1013.",
                self.most >> 20
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_bytes_are_counted_once_and_until_the_last_copy_is_gone() {
        let queues = Queues::new(100, Gauge::default());
        let bytes = queues.gauge().hold(Bytes::from(vec![7; 100]));
        let copies = [bytes.clone(), bytes.slice(50..)];
        assert_eq!(queues.gauge().held(), 100);
        assert!(!queues.is_over() && !queues.has_capacity());
        drop(bytes);
        assert_eq!((queues.gauge().held(), copies[1].len()), (100, 50));
        drop(copies);
        assert_eq!(queues.gauge().held(), 0);
        assert!(queues.has_capacity());
    }
}
