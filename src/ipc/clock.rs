//! When a record was published: seconds since the machine started.
//!
//! The bus does not outlive that start either, and nobody can set this clock back. It is the kernel's
//! coarse one, a few nanoseconds to read; it stands still while the machine is suspended.

use nix::time::{ClockId, clock_gettime};

/// Never 0, which says that nobody wanted to know.
pub(super) fn seconds() -> u32 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE);
    now.map_or(1, |time| time.tv_sec() as u32).max(1)
}
