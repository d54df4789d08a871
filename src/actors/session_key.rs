//! The key that names a session within its worker.

/// Names a session within its worker for as long as the worker lives. Never 0.
#[derive(Copy, Clone, Debug, Eq, Hash, PartialEq)]
pub struct SessionKey(u64);

impl SessionKey {
    /// The key of place `slot` in its `generation`-th use, counted from 1. So the hub recognises a late message for
    /// an earlier session of the same place.
    pub fn new(slot: u32, generation: u32) -> Self {
        debug_assert!(generation > 0, "key 0 means no session");
        Self(u64::from(generation) << 32 | u64::from(slot))
    }

    /// The place in the hub.
    pub fn slot(self) -> usize {
        self.0 as u32 as usize
    }

    /// The key in the form that a record has that excludes the session.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}
