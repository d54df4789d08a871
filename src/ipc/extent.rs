//! The extent of a ring: the bytes, from its start, that have memory.
//!
//! Most processes publish little or nothing, so a ring begins with a quarter of its memory, in which the largest record
//! fits. When a record does not fit in the reserved part, the producer reserves the next piece. If the system has no
//! memory left, the producer continues at the start of the ring, as if the ring ended there.

use std::fmt;
use std::ops::Range;

use super::layout::{PAGE_BYTES, first_bytes};

/// A ring grows by this part of its size at a time: half a mebibyte of the default, which takes the system a tenth of a
/// millisecond.
const PIECES: usize = 16;

/// Reserves a part of a ring. False: there is no memory for it.
pub(super) type Reserve = Box<dyn FnMut(Range<usize>) -> bool + Send>;

/// The reserved part of a ring, and the function that reserves more.
pub(super) struct Extent {
    /// Bytes of the ring that are reserved, from its start.
    bytes: usize,
    /// Bytes by which it grows at a time.
    piece: usize,
    ring_bytes: usize,
    /// `None`: all of it is reserved.
    reserve: Option<Reserve>,
}

impl Extent {
    /// A ring that is reserved as a whole.
    pub(super) fn whole(ring_bytes: usize) -> Extent {
        Extent {
            bytes: ring_bytes,
            piece: ring_bytes,
            ring_bytes,
            reserve: None,
        }
    }

    /// A ring of which [`first_bytes`] are reserved.
    pub(super) fn first(ring_bytes: usize, reserve: Reserve) -> Extent {
        Extent {
            bytes: first_bytes(ring_bytes),
            piece: (ring_bytes / PIECES).max(PAGE_BYTES),
            ring_bytes,
            reserve: Some(reserve),
        }
    }

    /// The same for a ring that is smaller than its pages: plain memory of a test.
    #[cfg(test)]
    pub(super) fn small(bytes: usize, piece: usize, ring_bytes: usize, reserve: Reserve) -> Extent {
        Extent {
            bytes,
            piece,
            ring_bytes,
            reserve: Some(reserve),
        }
    }

    /// Bytes of the ring that a producer may write to, from its start.
    #[inline]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Reserves memory up to `end`, because a record up to this byte of the ring does not fit. Without memory, nothing
    /// changes.
    #[cold]
    pub(super) fn grow(&mut self, end: u64) {
        let Some(reserve) = &mut self.reserve else {
            return;
        };
        let wanted = (end as usize).next_multiple_of(self.piece);
        let wanted = wanted.min(self.ring_bytes);
        if wanted > self.bytes && reserve(self.bytes..wanted) {
            self.bytes = wanted;
        }
        if self.bytes == self.ring_bytes {
            self.reserve = None;
        }
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extent({} of {})", self.bytes, self.ring_bytes)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ipc::layout::MAX_TOPIC_BYTES;
    use crate::ipc::layout::RING_BYTES;
    use crate::ipc::record::record_bytes;
    use crate::ipc::ring::{FRAME_HEADER_BYTES, max_message_bytes};

    #[test]
    fn the_first_bytes_hold_the_largest_record_and_are_whole_pages() {
        let sizes = (0..usize::BITS).map(|bit| 1_usize << bit);
        for ring_bytes in sizes.filter(|bytes| RING_BYTES.contains(bytes)) {
            let largest = max_message_bytes(ring_bytes) + FRAME_HEADER_BYTES + MAX_TOPIC_BYTES;
            let first = first_bytes(ring_bytes);
            assert!(record_bytes(largest) <= first, "a ring of {ring_bytes}");
            assert!(first <= ring_bytes && first.is_multiple_of(PAGE_BYTES));
        }
        assert_eq!(first_bytes(8 << 20), 2176 << 10);
    }

    #[test]
    fn a_ring_grows_piece_by_piece_until_it_is_whole() {
        let ring_bytes = 8 << 20;
        let mut extent = Extent::first(ring_bytes, Box::new(|_| true));
        extent.grow(extent.bytes() + 64);
        assert_eq!(extent.bytes(), 2560 << 10, "the next half mebibyte");
        extent.grow(5 << 20);
        assert_eq!(extent.bytes(), 5 << 20);
        extent.grow(9 << 20);
        assert_eq!(extent.bytes(), ring_bytes as u64);
        assert!(extent.reserve.is_none(), "no further memory is needed");
    }

    #[test]
    fn a_ring_without_memory_stays_as_it_is_and_tries_again() {
        let mut answers = [false, false, true].into_iter();
        let reserve: Reserve = Box::new(move |_| answers.next().expect("three times"));
        let mut extent = Extent::first(1 << 20, reserve);
        let first = extent.bytes();
        for _ in 0..2 {
            extent.grow(first + 64);
            assert_eq!(extent.bytes(), first);
        }
        extent.grow(first + 64);
        assert!(extent.bytes() > first);
    }
}
