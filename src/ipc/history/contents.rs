//! The contents of a history, as counts for people that inspect a bus.

use super::area::{Area, BLOCK_WORDS, head};
use super::rules::RetentionRule;
use crate::ipc::layout::WORD_BYTES;
use crate::ipc::sync::Ordering;

/// The retained records that [`crate::ipc::Bus::replay`] can return besides those of rings and log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HistoryContents {
    /// The retention rules.
    pub rules: Vec<RetentionRule>,
    /// The number of topics with retained records.
    pub topics: usize,
    /// Bytes in use.
    pub used_bytes: usize,
    /// Bytes that may be used.
    pub bytes: usize,
}

impl Area<'_> {
    /// The current counts.
    pub(in crate::ipc) fn contents(&self) -> HistoryContents {
        let hashes = self.hashes.iter();
        let used = (self.get_head(head::USED) as usize).min(self.blocks());
        let used = used.saturating_sub(self.get_head(head::FREE_BLOCKS) as usize);
        let block_bytes = BLOCK_WORDS * WORD_BYTES;
        HistoryContents {
            rules: self.rules(),
            topics: hashes.filter(|it| it.load(Ordering::Relaxed) != 0).count(),
            used_bytes: used * block_bytes,
            bytes: self.blocks() * block_bytes,
        }
    }
}
