//! The history: it retains records of chosen topics after the rings have overwritten them.
//!
//! Rules say which topics are retained, and how many records of each ([`rules`]). A publisher archives before it
//! overwrites a part of its ring, and after each quarter of the log: it copies the records that a rule covers into the
//! blocks of their topic ([`archiver`], [`store`]). So no record is copied before that is needed, no thread or process
//! has this as its task, and a slow one loses nothing. A replay walks the log backwards and then the topic's blocks
//! ([`replay`], [`reader`]).
//!
//! One process archives at a time: it holds a lock of the file for one batch. If it dies in a batch, a mark stays, and
//! the next archiver rebuilds the lists ([`repair`]). Readers take no lock. A block that was freed while it was read
//! has another generation afterwards.

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
