//! Keeps what is about to be overwritten: from the log and the rings into the store.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use super::area::{Area, head};
use super::rules::TopicRetention;
use super::store::{HistoryDamage, NewRecord};
use crate::ipc::clock;
use crate::ipc::file::SegmentFile;
use crate::ipc::log::{EntryState, LogEntry};
use crate::ipc::parts::Parts;
use crate::ipc::ring::{ReadResult, Ring};
use crate::ipc::sync::{Ordering, fence};

/// Another process that keeps needs microseconds for its batch, and a while more if it is not given
/// a processor. One that was stopped in it is waited for once, a tenth of a second: what it leaves
/// is counted as lost.
const PATIENCE: u32 = 1000;
const BETWEEN: Duration = Duration::from_micros(50);
/// So many records are looked at before the others are told.
const BATCH: u64 = 64;
/// Topics whose rule is remembered.
const REMEMBERED: usize = 4096;
/// Memory for a frame that a archiver has at hand between its batches.
const FRAME_CAPACITY: usize = 64 << 10;

/// What a process that keeps has at hand. One thread at a time.
#[derive(Debug, Default)]
pub(in crate::ipc) struct Archiver {
    /// The rule of each topic seen, as long as the rules are those of `version`.
    rules: HashMap<String, Option<TopicRetention>>,
    version: u64,
    /// Where the history stood when somebody else did not come to an end.
    stuck_at: Option<u64>,
    topic: String,
    frame: Vec<u8>,
}

impl Archiver {
    /// Sees to it that all records below `up_to` have been looked at, if nobody is in the way.
    pub(in crate::ipc) fn archive(&mut self, file: &SegmentFile, parts: Parts<'_>, up_to: u64) {
        let Some(area) = parts.history() else {
            return;
        };
        if area.retained() >= up_to || !self.lock(file, area, up_to) {
            return;
        }
        let _lock = ArchiveLock(file);
        if area.get_head(head::BUSY) != 0 {
            area.repair();
        }
        area.set_head(head::BUSY, 1);
        fence(Ordering::Release); // a repair that was not needed harms nobody, one that was missed would
        if self.look_at(area, parts, up_to) == Err(HistoryDamage) {
            area.clear();
            set_retained(area, up_to);
        }
        fence(Ordering::Release);
        area.set_head(head::BUSY, 0);
    }

    /// False: somebody else has done it, or holds the lock and does not come to an end.
    fn lock(&mut self, file: &SegmentFile, area: Area<'_>, up_to: u64) -> bool {
        let attempts = if self.stuck_at == Some(area.retained()) {
            1
        } else {
            PATIENCE
        };
        for attempt in 0..attempts {
            if attempt > 0 {
                thread::sleep(BETWEEN);
            }
            // A lock that cannot be asked about is one that cannot be had.
            if file.take_archive_lock().unwrap_or(false) {
                self.stuck_at = None;
                return true;
            }
            if area.retained() >= up_to {
                return false;
            }
        }
        self.stuck_at = Some(area.retained());
        false
    }

    fn look_at(
        &mut self,
        area: Area<'_>,
        parts: Parts<'_>,
        up_to: u64,
    ) -> Result<(), HistoryDamage> {
        if self.version != area.rules_version() || self.rules.len() > REMEMBERED {
            self.version = area.rules_version();
            self.rules.clear();
        }
        let now = clock::seconds();
        let mut offset = area.retained();
        while offset < up_to {
            match parts.log().state_at(offset) {
                EntryState::Empty => break,
                EntryState::Lapped { resume } => {
                    area.skip(resume);
                    offset = resume;
                }
                EntryState::Filled(entry) => {
                    if !self.archive_one(area, parts.ring(entry.slot), entry, offset, now)? {
                        area.skip(offset + 1);
                    }
                    offset += 1;
                }
            }
            if offset.is_multiple_of(BATCH) {
                set_retained(area, offset);
            }
        }
        set_retained(area, offset);
        self.frame.shrink_to(FRAME_CAPACITY);
        Ok(())
    }

    /// Keeps a record if a rule says so. False: it is gone already.
    fn archive_one(
        &mut self,
        area: Area<'_>,
        ring: Ring<'_>,
        entry: LogEntry,
        offset: u64,
        now: u32,
    ) -> Result<bool, HistoryDamage> {
        self.frame.clear();
        let named = ring.read_name(entry, offset, &mut self.frame, &mut self.topic);
        if !matches!(named, ReadResult::Record(_)) {
            return Ok(false);
        }
        let Some(rule) = self.rule(area) else {
            return Ok(true);
        };
        let copied = ring.read(entry, offset, |_| true, &mut self.frame, &mut self.topic);
        let ReadResult::Record(header) = copied else {
            return Ok(false);
        };
        let keep = NewRecord {
            offset,
            seconds: header.seconds,
            flags: header.flags,
            topic_hash: header.topic_hash,
            topic: &self.topic,
            frame: &self.frame,
        };
        area.append(&keep, rule, now).map(|()| true)
    }

    /// The rule for `self.topic`.
    fn rule(&mut self, area: Area<'_>) -> Option<TopicRetention> {
        if let Some(rule) = self.rules.get(&self.topic) {
            return *rule;
        }
        let rule = area.rule_for(&self.topic);
        self.rules.insert(self.topic.clone(), rule);
        rule
    }
}

fn set_retained(area: Area<'_>, offset: u64) {
    // [H7] Pairs with [H8].
    area.head[head::RETAINED].store(offset, Ordering::Release);
}

/// Gives the lock back.
struct ArchiveLock<'a>(&'a SegmentFile);

impl Drop for ArchiveLock<'_> {
    fn drop(&mut self) {
        // Can only fail if the descriptor is none, and then the kernel dropped the lock with it.
        let _ = self.0.release_archive_lock();
    }
}
