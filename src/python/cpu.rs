//! The CPU time of a thread, for others to read.

use std::mem;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;

/// How Linux numbers the clock of a thread's CPU time, as its scheduler counts it: below these bits stands
/// the complement of the thread's ID (`pthread_getcpuclockid(3)` gives the same).
const OF_A_THREAD: libc::clockid_t = 4 | 2;

/// The CPU clock of one thread.
#[derive(Clone, Copy)]
struct CpuClock(ClockId);

impl CpuClock {
    fn of_this_thread() -> Self {
        Self(ClockId::from_raw((!gettid().as_raw() << 3) | OF_A_THREAD))
    }

    /// CPU time so far; none once the thread has ended.
    fn read(self) -> Duration {
        clock_gettime(self.0).map_or(Duration::ZERO, Duration::from)
    }
}

/// A thread whose CPU time counts while it is at work.
pub(super) struct ThreadClock {
    clock: CpuClock,
    /// At the last look at which it had worked.
    cpu: Duration,
    /// It has been at work since the last look.
    has_worked: bool,
    is_at_work: bool,
}

impl ThreadClock {
    /// This thread, which is not at work.
    pub(super) fn this_thread() -> Self {
        let clock = CpuClock::of_this_thread();
        Self {
            clock,
            cpu: clock.read(),
            has_worked: false,
            is_at_work: false,
        }
    }

    /// This thread, of which nobody knows when it is not at work.
    pub(super) fn always_at_work() -> Self {
        Self {
            has_worked: true,
            is_at_work: true,
            ..Self::this_thread()
        }
    }

    pub(super) fn works(&mut self, is_at_work: bool) {
        self.is_at_work = is_at_work;
        self.has_worked |= is_at_work;
    }

    /// CPU time since this was last asked.
    pub(super) fn spent(&mut self) -> Duration {
        if !self.has_worked {
            return Duration::ZERO; // a thread that rests costs nothing, not even the look
        }
        self.has_worked = self.is_at_work;
        let before = mem::replace(&mut self.cpu, self.clock.read());
        self.cpu.saturating_sub(before)
    }
}
