//! The reasons for which the body of a request cannot be read.

/// Why a body is not accepted.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum BodyError {
    /// It exceeds its limit.
    TooLarge,
    /// It did not arrive in time.
    TooSlow,
    /// The memory for bodies is used up, and the body cannot go to a file.
    NoMemory,
    /// It must go to a file, and the disk is full or not writable.
    NoDisk,
    /// It ended early, or is malformed.
    Broken,
}

/// A body ended early, or is malformed. A connection can report no other error.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) struct BrokenBody;

impl From<BrokenBody> for BodyError {
    fn from(_: BrokenBody) -> Self {
        Self::Broken
    }
}
