//! The watcher that sees the progress of a measurement, and may end it.

use std::time::{Duration, Instant};

use super::error::{BenchError, Outcome};

/// The interval between calls of the watcher: short enough for Ctrl+C to work at once.
const EVERY: Duration = Duration::from_millis(50);

/// The progress of a measurement.
#[derive(Copy, Clone, Debug)]
pub struct Progress {
    /// `connecting`, `probing`, `warming up`, `measuring`, or `waiting` for missing messages.
    pub phase: &'static str,
    /// The completed part of the phase, 0 to 1.
    pub done: f64,
    /// The units counted so far.
    pub units: u64,
}

/// A watcher, which is notified of progress about every 50 ms.
pub trait Watch {
    /// Takes the progress. Returns false to end the measurement.
    fn goes_on(&mut self, progress: Progress) -> bool;
}

impl<F: FnMut(Progress) -> bool> Watch for F {
    fn goes_on(&mut self, progress: Progress) -> bool {
        self(progress)
    }
}

/// The pulse that notifies the watcher, but not too often.
pub(super) struct Pulse<'w> {
    watch: &'w mut dyn Watch,
    phase: &'static str,
    next: Instant,
}

impl<'w> Pulse<'w> {
    pub(super) fn new(watch: &'w mut dyn Watch) -> Self {
        Self {
            watch,
            phase: "",
            next: Instant::now(),
        }
    }

    /// Notifies the watcher if it is time. The caller calls it once per turn. The watcher is
    /// notified at the beginning of each phase, however short the phase is.
    pub(super) fn beat(&mut self, phase: &'static str, done: f64, units: u64) -> Outcome<()> {
        let now = Instant::now();
        if now < self.next && phase == self.phase {
            return Ok(());
        }
        self.phase = phase;
        self.next = now + EVERY;
        let done = done.clamp(0.0, 1.0);
        if self.watch.goes_on(Progress { phase, done, units }) {
            Ok(())
        } else {
            Err(BenchError::Interrupted)
        }
    }
}
