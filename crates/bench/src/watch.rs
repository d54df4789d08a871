//! Who looks on while something is measured, and may end it.

use std::time::{Duration, Instant};

use super::error::{BenchError, Outcome};

/// How often whoever watches is told: often enough for Ctrl+C to work at once.
const EVERY: Duration = Duration::from_millis(50);

/// How far it is.
#[derive(Copy, Clone, Debug)]
pub struct Progress {
    /// `connecting`, `probing`, `warming up`, `measuring`, or `waiting` for what is missing.
    pub phase: &'static str,
    /// Of the phase, 0 to 1.
    pub done: f64,
    /// What has been counted so far.
    pub units: u64,
}

/// Is told of progress, every 50 ms or so. Returns false to end the measurement.
pub trait Watch {
    /// This is how far it is.
    fn goes_on(&mut self, progress: Progress) -> bool;
}

impl<F: FnMut(Progress) -> bool> Watch for F {
    fn goes_on(&mut self, progress: Progress) -> bool {
        self(progress)
    }
}

/// Tells the watcher, not too often.
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

    /// Call it once per turn. Each phase is told of when it begins, however short it is.
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
