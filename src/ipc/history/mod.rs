//! What is kept of chosen topics after the rings have overwritten it.
//!
//! Rules say which topics, and how many records of each ([`rules`]). Before a publisher overwrites a
//! part of its ring, and whenever the log comes round a quarter, it sees to it that what would be
//! lost has been looked at: records of kept topics are copied into the blocks of their topic
//! ([`archiver`], [`store`]). So nobody copies what nobody needs yet, there is no thread and no process
//! whose job it is, and nothing is lost because somebody was slow. Who reads walks the log backwards, and
//! where the log ends, the topic's blocks ([`replay`], [`shelf`]).
//!
//! One process keeps at a time: it holds a lock of the file, for one batch. One that dies in a
//! batch leaves a mark, and the next to come makes the lists anew ([`repair`]). Readers take no lock; a block that was given
//! to somebody else while it was read has another generation afterwards.

#[cfg(not(loom))]
pub(super) mod archiver;
pub(super) mod area;
#[cfg(not(loom))]
pub(super) mod contents;
#[cfg(not(loom))]
mod reader;
#[cfg(not(loom))]
mod repair;
#[cfg(not(loom))]
pub(super) mod replay;
#[cfg(not(loom))]
pub(super) mod rules;
#[cfg(not(loom))]
mod store;
