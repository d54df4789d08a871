//! The atomics of the bus, imported in one place, so that a model checker can replace them.
//!
//! No other file in this folder imports atomics (a test below reads the files). Under `cfg(loom)` the shared words
//! become loom's. The algorithms (`log`, `ring`, `wake`, `cursor`) only see `&[AtomicU64]`, and run in the model
//! unchanged.

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The atomics that belong to this process alone and are not modelled, such as the list of descriptors that are
/// closed in a forked child (it must be static, and touched by atomics and system calls only).
pub(super) mod process {
    pub(in super::super) use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64};
}

/// Fence between the two halves of a store-buffering pair whose accesses are all `SeqCst`.
///
/// The C++20 model, and so Rust, needs nothing here. loom treats `SeqCst` accesses as acquire/release, and only its
/// fences as sequentially consistent, so the model gets a fence.
#[inline]
pub(super) fn dekker_fence() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn no_other_file_in_this_folder_imports_atomics() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ipc");
        let mut read = 0;
        for file in fs::read_dir(folder).expect("the sources are here when tests are built") {
            let path = file.expect("a readable folder").path();
            if path.is_dir() {
                continue; // the models of `proofs`
            }
            let text = fs::read_to_string(&path).expect("a source file");
            read += 1;
            assert!(
                path.ends_with("sync.rs") || !text.contains("sync::atomic"),
                "{} imports atomics past ipc/sync.rs",
                path.display()
            );
        }
        assert!(read > 8, "only {read} files were looked at");
    }
}
