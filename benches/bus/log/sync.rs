//! The words that count failed swaps, for each thread.

use std::cell::Cell;
pub(super) use std::sync::atomic::Ordering;

thread_local! {
    static FAILED_SWAPS: Cell<u64> = const { Cell::new(0) };
}

/// The number of swaps of this thread that have failed.
pub(super) fn failed_swaps() -> u64 {
    FAILED_SWAPS.get()
}

/// An atomic as in the standard library, as far as the log uses it.
#[derive(Debug)]
pub(super) struct AtomicU64(std::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(super) const fn new(value: u64) -> AtomicU64 {
        AtomicU64(std::sync::atomic::AtomicU64::new(value))
    }

    #[inline]
    pub(super) fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    #[inline]
    pub(super) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_max(value, order)
    }

    #[inline]
    pub(super) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        let swapped = self.0.compare_exchange(current, new, success, failure);
        if swapped.is_err() {
            FAILED_SWAPS.set(FAILED_SWAPS.get() + 1);
        }
        swapped
    }
}
