//! The memory for a fuzzer's segment, with guard pages around it.
#![allow(unsafe_code)] // Pages that must not be touched cannot be had otherwise.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::slice;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::ipc::layout::{Layout, PAGE_BYTES, WORD_BYTES};
use crate::ipc::parts::Parts;
use crate::ipc::sync::AtomicU64;

/// A new segment, all zero, between two inaccessible pages: a copy that leaves it is a segmentation fault. The
/// address sanitizer does not see the one instruction of `copy` that moves bytes. These pages do.
#[derive(Debug)]
pub(super) struct GuardedMemory {
    /// The address of the page before the segment.
    start: NonNull<c_void>,
    layout: Layout,
}

impl GuardedMemory {
    pub(super) fn new(layout: Layout) -> GuardedMemory {
        let bytes = layout.total_bytes();
        assert!(bytes.is_multiple_of(PAGE_BYTES), "it ends with a page");
        let all = NonZeroUsize::new(bytes + 2 * PAGE_BYTES).expect("two pages at least");
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: new memory, at an address that the kernel chooses. The range that becomes accessible lies within
        // it.
        let start = unsafe {
            let start = mmap_anonymous(None, all, ProtFlags::PROT_NONE, flags);
            let start = start.expect("addresses for a small segment");
            let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            mprotect(start.byte_add(PAGE_BYTES), bytes, access).expect("memory just mapped");
            start
        };
        GuardedMemory { start, layout }
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: page-aligned, that long, accessible, and mapped as long as `self` lives. Every bit pattern is an
        // `AtomicU64`.
        unsafe {
            let words = self.start.byte_add(PAGE_BYTES).cast().as_ptr();
            slice::from_raw_parts(words, self.layout.total_bytes() / WORD_BYTES)
        }
    }

    pub(super) fn parts(&self) -> Parts<'_> {
        Parts::new(self.words(), self.layout)
    }
}

impl Drop for GuardedMemory {
    fn drop(&mut self) {
        let all = self.layout.total_bytes() + 2 * PAGE_BYTES;
        // SAFETY: mapped by `new`, and no reference into it is left.
        unsafe { munmap(self.start, all) }.expect("it was mapped that long");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_beside_the_segment_are_inaccessible() {
        let layout = Layout::new(4096, 64).expect("the smallest");
        let memory = GuardedMemory::new(layout);
        let start = memory.start.as_ptr() as usize;
        let all = start..start + layout.total_bytes() + 2 * PAGE_BYTES;
        let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
        let access: Vec<_> = maps
            .lines()
            .filter_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (from, to) = range.split_once('-')?;
                let from = usize::from_str_radix(from, 16).expect("an address");
                let to = usize::from_str_radix(to, 16).expect("an address");
                (from < all.end && to > all.start).then_some(&rest[..4])
            })
            .collect();
        assert_eq!(access, ["---p", "rw-p", "---p"]);
        assert_eq!(memory.words().len() * WORD_BYTES, layout.total_bytes());
    }
}
