//! The clock of the bus: seconds since the machine started.
//!
//! A bus does not outlive that start either, and no process can set this clock back. It is the kernel's coarse clock,
//! which takes a few nanoseconds to read. It stands still while the machine is suspended.

use nix::time::{ClockId, clock_gettime};

/// The current second. Never 0, which means that a record has no time.
pub(super) fn seconds() -> u32 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE);
    now.map_or(1, |time| time.tv_sec() as u32).max(1)
}
