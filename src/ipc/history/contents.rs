//! The contents of a history, as counts: for people that look at a bus.

use super::area::{Area, BLOCK_WORDS, head};
use super::rules::RetentionRule;
use crate::ipc::layout::WORD_BYTES;
use crate::ipc::sync::Ordering;

/// What a bus keeps for [`crate::ipc::Bus::replay`] besides what rings and log still have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HistoryContents {
    /// What is to be kept.
    pub rules: Vec<RetentionRule>,
    /// Topics that something is kept of.
    pub topics: usize,
    /// Bytes that it takes.
    pub used_bytes: usize,
    /// Bytes that it may take.
    pub bytes: usize,
}

impl Area<'_> {
    /// What it holds just now.
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
