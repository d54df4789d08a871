//! The archiver: it copies records with a retention rule from the log and the rings into the store, before they are
//! overwritten.

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

/// Attempts to take the lock. Another archiver needs microseconds for its batch, and longer if it gets no processor.
/// A stopped one costs one wait of a tenth of a second: the records that are overwritten then count as lost.
const PATIENCE: u32 = 1000;
const BETWEEN: Duration = Duration::from_micros(50);
/// After this many records, their offset is published to the other processes.
const BATCH: u64 = 64;
/// Topics whose rule is cached.
const REMEMBERED: usize = 4096;
/// Capacity that the frame buffer retains between batches.
const FRAME_CAPACITY: usize = 64 << 10;

/// The archiver of one process, with its buffers and its cache. Used by one thread at a time.
#[derive(Debug, Default)]
pub(in crate::ipc) struct Archiver {
    /// The rule of each topic, while the rules have this `version`.
    rules: HashMap<String, Option<TopicRetention>>,
    version: u64,
    /// The offset that the history had reached when another archiver did not finish.
    stuck_at: Option<u64>,
    topic: String,
    frame: Vec<u8>,
}

impl Archiver {
    /// Archives all records below `up_to`, unless another process does that already and does not finish.
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
        fence(Ordering::Release); // an unneeded repair does no harm, a missing one would
        if self.look_at(area, parts, up_to) == Err(HistoryDamage) {
            area.clear();
            set_retained(area, up_to);
        }
        fence(Ordering::Release);
        area.set_head(head::BUSY, 0);
    }

    /// Takes the lock. False: another process has archived these records, or holds the lock and does not finish.
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
            // A lock that cannot be checked counts as held.
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

    /// Archives one record if a rule covers its topic. False: it was overwritten already.
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
        let record = NewRecord {
            offset,
            seconds: header.seconds,
            flags: header.flags,
            topic_hash: header.topic_hash,
            topic: &self.topic,
            frame: &self.frame,
        };
        area.append(&record, rule, now).map(|()| true)
    }

    /// The retention of `self.topic`. `None`: no rule covers it.
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

/// The guard of the lock for archiving, which releases it.
struct ArchiveLock<'a>(&'a SegmentFile);

impl Drop for ArchiveLock<'_> {
    fn drop(&mut self) {
        // Can only fail if the descriptor is invalid, and then the kernel has released the lock with it.
        let _ = self.0.release_archive_lock();
    }
}
