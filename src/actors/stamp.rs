//! The stamp that holds a point in time in 8 bytes, where [`Instant`] takes 16: each session has four of them.

use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Nanoseconds since the first stamp was made, counted from 1: so an `Option` takes no more space. An earlier time
/// counts as that of the first stamp.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Stamp(NonZeroU64);

static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Stamp {
    /// The current time.
    pub fn now() -> Self {
        Instant::now().into()
    }
}

impl From<Instant> for Stamp {
    fn from(instant: Instant) -> Self {
        // 64 bits last for five centuries.
        let ns = instant.saturating_duration_since(*FIRST).as_nanos() as u64;
        Self(NonZeroU64::MIN.saturating_add(ns))
    }
}

impl From<Stamp> for Instant {
    fn from(Stamp(ns): Stamp) -> Self {
        *FIRST + Duration::from_nanos(ns.get() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_the_instant_it_was_made_of() {
        let first = Stamp::now();
        let later = Instant::from(first) + Duration::from_secs(5);
        assert_eq!(Instant::from(Stamp::from(later)), later);
        assert!(first < Stamp::from(later));
    }

    #[test]
    fn never_takes_no_room() {
        assert_eq!(size_of::<Option<Stamp>>(), 8);
    }
}
