//! What was published to a topic before: from the log, and what the log has forgotten from the store.

use std::ops::Range;

use super::area::{Area, RECORD_HEADER_WORDS, head};
use super::rules::TopicRetention;
use crate::ipc::clock;
use crate::ipc::layout::WORD_BYTES;
use crate::ipc::log::EntryState;
use crate::ipc::parts::Parts;
use crate::ipc::record::topic_hash;
use crate::ipc::ring::ReadResult;

/// Bytes that a kept record takes besides its frame, at most.
const MOST_OVERHEAD: usize = (RECORD_HEADER_WORDS + 1) * WORD_BYTES;
/// More records than this are never in the log and the store both.
const MOST_SPARE: u64 = 1 << 40;

/// How far back to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplayRange {
    /// So many of the newest records.
    Last(usize),
    /// All records from this offset on.
    From(u64),
}

/// A record of the past.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplayRecord {
    /// The record's number in the one order.
    pub offset: u64,
    /// As the publisher gave them.
    pub flags: u8,
    /// Where its frame lies in [`Replay::frames`].
    pub frame: Range<usize>,
}

/// A topic's past: records without a hole up to a certain offset, as far back as could be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Replay {
    /// Their frames, in no certain order.
    pub frames: Vec<u8>,
    /// Oldest first.
    pub records: Vec<ReplayRecord>,
    /// Whether it is all that was asked for: with [`ReplayRange::Last`] that many records, or every one
    /// that there ever was; with [`ReplayRange::From`] every record from that offset on.
    pub complete: bool,
}

/// Reads the records of `topic` below `until`, no more than `max_bytes` of frames.
pub(in crate::ipc) fn replay(
    parts: Parts<'_>,
    topic: &str,
    reach: ReplayRange,
    until: u64,
    max_bytes: usize,
) -> Replay {
    let area = parts.history().filter(Area::is_used);
    let rule = area.and_then(|area| Some((area, area.rule_for(topic)?)));
    let (from, most) = match reach {
        ReplayRange::Last(count) => (0, count),
        ReplayRange::From(offset) => (offset, usize::MAX),
    };
    let mut walk = Walk {
        parts,
        topic,
        hash: topic_hash(topic.as_bytes()),
        // An offset that is still to come is of another life of the bus: all is new to who asks.
        from: if from > until { 0 } else { from },
        most,
        max_bytes,
        born_after: rule.map_or(0, |(_, rule)| born_after(rule)),
        at: until,
        past: Replay::default(),
    };
    let reached = match (walk.through_log(rule.map(|(area, _)| area)), rule) {
        (Stop::Below, Some((area, rule))) => walk.through_store(area, rule),
        (Stop::Below, None) => walk.at <= walk.from,
        (Stop::Enough, _) => true,
        (Stop::Hole | Stop::Limit, _) => false,
    };
    walk.past.complete = reached && from <= until;
    walk.past.records.reverse();
    walk.past
}

/// Records published before this second are too old; 0: none is.
fn born_after(rule: TopicRetention) -> u32 {
    match rule.seconds {
        0 => 0,
        seconds => clock::seconds().saturating_sub(seconds),
    }
}

/// Why a walk came to an end.
enum Stop {
    /// What lies below is not in the log any more, or not asked for.
    Below,
    /// There is a record that was overwritten and not kept.
    Hole,
    /// There are as many as were asked for.
    Enough,
    /// Too old, or too much.
    Limit,
}

struct Walk<'a> {
    parts: Parts<'a>,
    topic: &'a str,
    hash: u64,
    from: u64,
    most: usize,
    max_bytes: usize,
    born_after: u32,
    /// Everything from here on has been read.
    at: u64,
    past: Replay,
}

impl Walk<'_> {
    /// Down the log, to where the store begins if the topic is kept.
    fn through_log(&mut self, kept_in: Option<Area<'_>>) -> Stop {
        let mut kept = kept_in.map_or(0, |area| area.retained());
        let mut name = String::new();
        while self.at > self.from.max(kept) {
            if self.past.records.len() == self.most {
                return Stop::Enough;
            }
            let offset = self.at - 1;
            let copied = match self.parts.log().state_at(offset) {
                EntryState::Filled(entry) if entry.tag != self.hash as u8 => ReadResult::Unwanted,
                EntryState::Filled(entry) => {
                    let start = self.past.frames.len();
                    let copied = self.parts.ring(entry.slot).read(
                        entry,
                        offset,
                        |hash| hash == self.hash,
                        &mut self.past.frames,
                        &mut name,
                    );
                    if matches!(copied, ReadResult::Record(_)) && name != self.topic {
                        self.past.frames.truncate(start);
                        ReadResult::Unwanted
                    } else {
                        copied
                    }
                }
                EntryState::Empty | EntryState::Lapped { .. } => ReadResult::Overwritten,
            };
            match copied {
                ReadResult::Unwanted => {}
                ReadResult::Record(header) => {
                    let end = self.past.frames.len();
                    let frame = end - header.frame_len as usize..end;
                    if self.is_too_old(header.seconds) || end > self.max_bytes {
                        self.past.frames.truncate(frame.start);
                        return Stop::Limit;
                    }
                    self.past.records.push(ReplayRecord {
                        offset,
                        flags: header.flags,
                        frame,
                    });
                }
                ReadResult::Overwritten => {
                    // It was kept before it was overwritten, if all is as it should be.
                    kept = kept_in.map_or(0, |area| area.retained());
                    if kept < self.at {
                        return Stop::Hole;
                    }
                    continue;
                }
            }
            self.at = offset;
        }
        if self.past.records.len() == self.most {
            return Stop::Enough;
        }
        Stop::Below
    }

    /// Through what was kept, below where the log ended. Whether all that was asked for is there.
    fn through_store(&mut self, area: Area<'_>, rule: TopicRetention) -> bool {
        if self.at <= self.from {
            return true;
        }
        let missing = self.most - self.past.records.len();
        let room = self.max_bytes - self.past.frames.len();
        // Records that the log has given already may be among those kept, and one may be written now.
        let mut spare = 1;
        loop {
            let wanted = (missing as u64).saturating_add(spare);
            let stream = area.stream(self.hash, self.topic, |first, records, bytes| {
                let overhead = (records + spare) as usize * MOST_OVERHEAD;
                first <= self.from || records >= wanted || bytes > room.saturating_add(overhead)
            });
            let Some(stream) = stream else {
                let floor = area.get_head(head::LOST).max(area.get_head(head::GAP));
                return floor.max(rule.since) <= self.from;
            };
            // Records that were overwritten too soon have left a hole somewhere below.
            let gap = area.get_head(head::GAP);
            let lowest = self.from.max(gap);
            let records: Vec<_> = stream.records().collect();
            let below = records.iter().filter(|it| it.offset < self.at);
            let (count, bytes) = below.fold((0, 0), |(count, bytes), it| {
                (count + 1, bytes + it.frame.len())
            });
            let oldest = records.first().map_or(0, |it| it.offset);
            let is_short = oldest > lowest && count < missing && bytes <= room;
            if stream.more && is_short && spare < MOST_SPARE {
                spare *= 16;
                continue;
            }
            for it in records.iter().rev().filter(|it| it.offset < self.at) {
                if it.offset < lowest {
                    break;
                }
                if self.past.records.len() == self.most {
                    return true;
                }
                let start = self.past.frames.len();
                let end = start + it.frame.len();
                if self.is_too_old(it.seconds) || end > self.max_bytes {
                    return false;
                }
                self.past.frames.extend_from_slice(it.frame);
                self.past.records.push(ReplayRecord {
                    offset: it.offset,
                    flags: it.flags,
                    frame: start..end,
                });
            }
            let floor = stream.floor.max(gap);
            return self.past.records.len() == self.most || floor.max(rule.since) <= self.from;
        }
    }

    fn is_too_old(&self, seconds: u32) -> bool {
        seconds != 0 && seconds < self.born_after
    }
}
