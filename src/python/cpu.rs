//! The CPU time of a thread, for others to read.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;

/// How Linux numbers the clock of a thread's CPU time, as its scheduler counts it: below these bits stands
/// the complement of the thread's ID (`pthread_getcpuclockid(3)` gives the same).
const OF_A_THREAD: libc::clockid_t = 4 | 2;

/// The CPU clock of one thread.
#[derive(Clone, Copy)]
pub(super) struct CpuClock(ClockId);

impl CpuClock {
    pub(super) fn of_this_thread() -> Self {
        Self(ClockId::from_raw((!gettid().as_raw() << 3) | OF_A_THREAD))
    }

    /// CPU time so far; none once the thread has ended.
    pub(super) fn read(self) -> Duration {
        clock_gettime(self.0).map_or(Duration::ZERO, Duration::from)
    }
}
