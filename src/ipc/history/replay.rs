//! The replay of a topic: its earlier records, first from the log, then from the store.

use std::ops::Range;

use super::area::{Area, RECORD_HEADER_WORDS, head};
use super::rules::TopicRetention;
use crate::ipc::clock;
use crate::ipc::layout::WORD_BYTES;
use crate::ipc::log::EntryState;
use crate::ipc::parts::Parts;
use crate::ipc::record::topic_hash;
use crate::ipc::ring::ReadResult;

/// Most bytes that a retained record takes besides its frame.
const MOST_OVERHEAD: usize = (RECORD_HEADER_WORDS + 1) * WORD_BYTES;
/// Log and store never have more records than this in common.
const MOST_SPARE: u64 = 1 << 40;

/// The range of a replay: how far back it goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplayRange {
    /// The newest records, up to this number.
    Last(usize),
    /// All records from this offset on.
    From(u64),
}

/// A replayed record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplayRecord {
    /// The record's number in the order of all records.
    pub offset: u64,
    /// As in the [`Draft`](crate::ipc::Draft).
    pub flags: u8,
    /// The range of its frame in [`Replay::frames`].
    pub frame: Range<usize>,
}

/// The replayed records of a topic, without a hole up to a certain offset.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Replay {
    /// Their frames, in no particular order.
    pub frames: Vec<u8>,
    /// Oldest first.
    pub records: Vec<ReplayRecord>,
    /// Whether the range is complete: with [`ReplayRange::Last`] that number of records, or all that ever were; with
    /// [`ReplayRange::From`] all records from that offset on.
    pub complete: bool,
}

/// Replays the records of `topic` below `until`, at most `max_bytes` of frames.
pub(in crate::ipc) fn replay(
    parts: Parts<'_>,
    topic: &str,
    range: ReplayRange,
    until: u64,
    max_bytes: usize,
) -> Replay {
    let area = parts.history().filter(Area::is_used);
    let rule = area.and_then(|area| Some((area, area.rule_for(topic)?)));
    let (from, most) = match range {
        ReplayRange::Last(count) => (0, count),
        ReplayRange::From(offset) => (offset, usize::MAX),
    };
    let mut walk = Walk {
        parts,
        topic,
        hash: topic_hash(topic.as_bytes()),
        // A later offset belongs to another epoch of the bus: then all records are new to the caller.
        from: if from > until { 0 } else { from },
        most,
        max_bytes,
        born_after: rule.map_or(0, |(_, rule)| born_after(rule)),
        at: until,
        replay: Replay::default(),
    };
    let reached = match (walk.through_log(rule.map(|(area, _)| area)), rule) {
        (Stop::Below, Some((area, rule))) => walk.through_store(area, rule),
        (Stop::Below, None) => walk.at <= walk.from,
        (Stop::Enough, _) => true,
        (Stop::Hole | Stop::Limit, _) => false,
    };
    walk.replay.complete = reached && from <= until;
    walk.replay.records.reverse();
    walk.replay
}

/// The second before which records are too old. 0: none is.
fn born_after(rule: TopicRetention) -> u32 {
    match rule.seconds {
        0 => 0,
        seconds => clock::seconds().saturating_sub(seconds),
    }
}

/// The reason why a walk ended.
enum Stop {
    /// The records below are not in the log any more, or not wanted.
    Below,
    /// A record was overwritten and not archived.
    Hole,
    /// The wanted number of records was read.
    Enough,
    /// A record is too old, or the frames are too large.
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
    /// Everything from this offset on has been read.
    at: u64,
    replay: Replay,
}

impl Walk<'_> {
    /// Walks down the log, to the records that the store has.
    fn through_log(&mut self, store: Option<Area<'_>>) -> Stop {
        let mut retained = store.map_or(0, |area| area.retained());
        let mut name = String::new();
        while self.at > self.from.max(retained) {
            if self.replay.records.len() == self.most {
                return Stop::Enough;
            }
            let offset = self.at - 1;
            let copied = match self.parts.log().state_at(offset) {
                EntryState::Filled(entry) if entry.tag != self.hash as u8 => ReadResult::Unwanted,
                EntryState::Filled(entry) => {
                    let start = self.replay.frames.len();
                    let copied = self.parts.ring(entry.slot).read(
                        entry,
                        offset,
                        |hash| hash == self.hash,
                        &mut self.replay.frames,
                        &mut name,
                    );
                    if matches!(copied, ReadResult::Record(_)) && name != self.topic {
                        self.replay.frames.truncate(start);
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
                    let end = self.replay.frames.len();
                    let frame = end - header.frame_len as usize..end;
                    if self.is_too_old(header.seconds) || end > self.max_bytes {
                        self.replay.frames.truncate(frame.start);
                        return Stop::Limit;
                    }
                    self.replay.records.push(ReplayRecord {
                        offset,
                        flags: header.flags,
                        frame,
                    });
                }
                ReadResult::Overwritten => {
                    // It was archived before it was overwritten, unless there is a gap.
                    retained = store.map_or(0, |area| area.retained());
                    if retained < self.at {
                        return Stop::Hole;
                    }
                    continue;
                }
            }
            self.at = offset;
        }
        if self.replay.records.len() == self.most {
            return Stop::Enough;
        }
        Stop::Below
    }

    /// Walks through the store, below the part that the log had. True: all wanted records are there.
    fn through_store(&mut self, area: Area<'_>, rule: TopicRetention) -> bool {
        if self.at <= self.from {
            return true;
        }
        let missing = self.most - self.replay.records.len();
        let room = self.max_bytes - self.replay.frames.len();
        // The store may have some of the records that came from the log, and one that is just being written.
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
            // Records that were overwritten too soon have left a gap somewhere below.
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
                if self.replay.records.len() == self.most {
                    return true;
                }
                let start = self.replay.frames.len();
                let end = start + it.frame.len();
                if self.is_too_old(it.seconds) || end > self.max_bytes {
                    return false;
                }
                self.replay.frames.extend_from_slice(it.frame);
                self.replay.records.push(ReplayRecord {
                    offset: it.offset,
                    flags: it.flags,
                    frame: start..end,
                });
            }
            let floor = stream.floor.max(gap);
            return self.replay.records.len() == self.most || floor.max(rule.since) <= self.from;
        }
    }

    fn is_too_old(&self, seconds: u32) -> bool {
        seconds != 0 && seconds < self.born_after
    }
}
