//! The clock of a thread's CPU time, which other threads read.

use std::mem;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::gettid;

/// The lowest bits of the ID that Linux has for the clock of a thread's CPU time; above them stands the complement of
/// the thread's ID (`pthread_getcpuclockid(3)` returns the same).
const OF_A_THREAD: libc::clockid_t = 4 | 2;

/// The CPU clock of one thread.
#[derive(Clone, Copy)]
struct CpuClock(ClockId);

impl CpuClock {
    fn of_this_thread() -> Self {
        Self(ClockId::from_raw((!gettid().as_raw() << 3) | OF_A_THREAD))
    }

    /// CPU time so far. Zero once the thread has ended.
    fn read(self) -> Duration {
        clock_gettime(self.0).map_or(Duration::ZERO, Duration::from)
    }
}

/// A thread whose CPU time counts while it is at work.
pub(super) struct ThreadClock {
    clock: CpuClock,
    /// CPU time at the last look at which it had worked.
    cpu: Duration,
    /// It has been at work since the last look.
    has_worked: bool,
    is_at_work: bool,
}

impl ThreadClock {
    /// The clock of this thread, which is not at work.
    pub(super) fn this_thread() -> Self {
        let clock = CpuClock::of_this_thread();
        Self {
            clock,
            cpu: clock.read(),
            has_worked: false,
            is_at_work: false,
        }
    }

    /// The clock of this thread, which always counts as at work.
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

    /// CPU time since the last call.
    pub(super) fn spent(&mut self) -> Duration {
        if !self.has_worked {
            return Duration::ZERO; // a resting thread costs nothing, not even a read of its clock
        }
        self.has_worked = self.is_at_work;
        let before = mem::replace(&mut self.cpu, self.clock.read());
        self.cpu.saturating_sub(before)
    }
}
