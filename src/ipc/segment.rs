//! The mapping of a segment into the memory of this process, seen as words.
#![allow(unsafe_code)] // Mapped memory needs it.

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::slice;

use nix::sys::mman::{MmapAdvise, madvise};
use shared_memory::{Shmem, ShmemConf};

use super::error::BusError;
use super::file::{SegmentFile, os_name};
use super::layout::{Layout, WORD_BYTES};
use super::parts::Parts;
use super::sync::AtomicU64;

/// A segment that is mapped into this process's memory.
pub(super) struct Segment {
    /// Mapped by name, but not the owner of the name: dropping it, here or in a forked child, unmaps and never unlinks.
    memory: Shmem,
    file: SegmentFile,
    layout: Layout,
}

// SAFETY: `Shmem` is a pointer to mapped memory that stays until drop, and its strings; the memory is
// only ever seen as atomics.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

/// The mapping of a file with an unknown layout.
pub(super) struct Mapping(Shmem);

impl Mapping {
    /// Maps the segment that `name` leads to. The caller holds the door and knows that it is `file`: `shared_memory`
    /// opens it by name once more, and does not show that descriptor.
    pub(super) fn new(name: &str, file: &SegmentFile) -> Result<Mapping, BusError> {
        let opened = ShmemConf::new().os_id(os_name(name)).open();
        let memory = opened.map_err(|source| BusError::Mapping {
            name: name.into(),
            source,
        })?;
        // A person may have removed the name by hand, without the door.
        if !file.is_still_named()? {
            return Err(BusError::Busy { name: name.into() });
        }
        Ok(Mapping(memory))
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        words(&self.0)
    }

    /// `None` if the mapping is shorter than the layout.
    pub(super) fn into_segment(self, file: SegmentFile, layout: Layout) -> Option<Segment> {
        let long_enough = self.0.len() >= layout.total_bytes();
        long_enough.then_some(Segment {
            memory: self.0,
            file,
            layout,
        })
    }
}

fn words(memory: &Shmem) -> &[AtomicU64] {
    // SAFETY: the mapping is page-aligned, `len` bytes long and lives as long as `memory`; every bit
    // pattern is an `AtomicU64`, and this process makes no other reference into it.
    unsafe { slice::from_raw_parts(memory.as_ptr().cast(), memory.len() / WORD_BYTES) }
}

impl Segment {
    pub(super) fn file(&self) -> &SegmentFile {
        &self.file
    }

    #[inline]
    pub(super) fn parts(&self) -> Parts<'_> {
        Parts::new(words(&self.memory), self.layout)
    }

    /// Reserves memory for a part, and faults it in.
    pub(super) fn reserve(&self, part: &Range<usize>) -> Result<(), BusError> {
        self.file.reserve(part)?;
        self.populate(part);
        Ok(())
    }

    /// Faults a reserved part in, so that the first lap through it is as quick as the second. A kernel before 5.14
    /// cannot do that; then the pages come one by one.
    pub(super) fn populate(&self, part: &Range<usize>) {
        assert!(part.start <= part.end && part.end <= self.memory.len());
        // SAFETY: the range lies in the mapping, and this advice changes no contents.
        unsafe {
            let start = NonNull::new_unchecked(self.memory.as_ptr().add(part.start)).cast();
            let _ = madvise(start, part.len(), MmapAdvise::MADV_POPULATE_WRITE);
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Segment");
        debug
            .field("file", &self.file)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}
