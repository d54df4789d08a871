//! The outbox that holds the outbound frames of a session, up to a bound.
//!
//! It holds only frames that the socket did not take at once. So it is empty, and owns no memory, as long
//! as the client keeps up. It knows no socket: the session's writer takes slices, and reports how many bytes
//! were written.

mod drops;
mod entry;
mod policy;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::mem;

use bytes::Bytes;

use self::entry::Entry;
pub use self::entry::{FRAME_OVERHEAD, Source};
pub use self::policy::{OutboxFull, Overflow};
use super::frame::{self, FrameHeader};

/// Frames that wait for the socket, oldest first.
#[derive(Debug)]
pub struct Outbox {
    queue: VecDeque<Entry>,
    /// Bytes that wait, without those that `written` counts.
    bytes: usize,
    /// Bytes of whole entries that no other queue shares.
    own: usize,
    /// Bytes and [`FRAME_OVERHEAD`] for each frame at which the queue is full.
    limit: usize,
    /// Bytes of the first entry that the socket took already.
    written: usize,
    /// The client has seen the beginning of the first entry, so it is never dropped.
    begun: bool,
    /// Bytes at the start of the first entry that are the rest of a frame, whose beginning went out
    /// before anything waited. [`ALL`]: the whole entry is.
    rest: u32,
    overflow: Overflow,
}

/// Small frames of the handler or the session are joined up to this many bytes: they are never
/// dropped one by one.
const JOINED_BYTES: usize = 4096;

/// A rest that is as long as its entry. No frame is ever joined to a rest that is longer than this number.
const ALL: u32 = u32::MAX;

/// A queue that held this many frames releases its memory when it is empty again.
const KEPT_FRAMES: usize = 8;

impl Outbox {
    /// An empty outbox for `limit` bytes.
    pub fn new(limit: usize, overflow: Overflow) -> Self {
        let queue = VecDeque::new();
        Self {
            queue,
            bytes: 0,
            own: 0,
            written: 0,
            begun: false,
            rest: 0,
            limit,
            overflow,
        }
    }

    /// Does nothing wait?
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The cost of the frames that wait: their bytes, and [`FRAME_OVERHEAD`] for each.
    pub fn cost(&self) -> usize {
        self.bytes + self.queue.len() * FRAME_OVERHEAD
    }

    /// Would `len` more bytes in a frame of their own stay within the bound?
    fn fits(&self, len: usize) -> bool {
        self.cost() + len + FRAME_OVERHEAD <= self.limit
    }

    /// The cost of this queue alone: without the bytes that others share.
    pub fn own_cost(&self) -> usize {
        self.own + self.queue.len() * FRAME_OVERHEAD
    }

    /// Queues the rest of frames whose beginning the socket took. The first of them ends `end` bytes on. Only for
    /// an empty outbox.
    pub fn push_rest(&mut self, rest: Bytes, end: usize, source: Source) {
        debug_assert!(
            self.is_empty() && (1..=rest.len()).contains(&end),
            "a rest is the first to wait"
        );
        self.bytes = rest.len();
        self.begun = true;
        self.rest = u32::try_from(end).unwrap_or(ALL);
        self.append(Entry::new(rest, source));
    }

    /// Queues a large message of the handler, of which the socket took `taken` bytes already; none, if
    /// anything waits.
    pub fn push_large(&mut self, header: FrameHeader, payload: Bytes, taken: usize) {
        if taken > 0 {
            let rest = match taken.checked_sub(header.len()) {
                Some(taken) => payload.slice(taken..),
                // This is rare: the socket had room for less than ten bytes.
                None => [&header[taken..], &payload].concat().into(),
            };
            let end = rest.len();
            return self.push_rest(rest, end, Source::Handler);
        }
        let entry = Entry {
            header: Some(header),
            frame: payload,
            source: Source::Handler,
        };
        self.bytes += entry.len();
        self.append(entry);
    }

    /// Queues a frame. Published frames obey the bound; one that finds the queue empty always fits, so that the
    /// bound never forbids a single message. Returns the number of frames that the policy has dropped for it.
    pub fn push(&mut self, frame: Bytes, source: Source) -> Result<u64, OutboxFull> {
        let mut dropped = 0;
        if let Source::Topic(topic) = source
            && !self.queue.is_empty()
        {
            let outcome = self.apply_policy(frame.len(), topic)?;
            dropped = outcome.dropped;
            if !outcome.fits {
                return Ok(dropped + 1);
            }
        }
        self.bytes += frame.len();
        if let Some(last) = self.queue.back_mut()
            && last.source == source
            && last.header.is_none()
            && source.is_own()
            && last.frame.len() + frame.len() <= JOINED_BYTES
        {
            last.frame = [&last.frame[..], &frame].concat().into();
            self.own += frame.len();
            return Ok(dropped);
        }
        self.append(Entry::new(frame, source));
        Ok(dropped)
    }

    fn append(&mut self, entry: Entry) {
        self.own += entry.own_bytes();
        self.queue.push_back(entry);
    }

    fn take_first(&mut self) -> Option<Entry> {
        let first = self.queue.pop_front()?;
        self.own -= first.own_bytes();
        if self.queue.is_empty() && self.queue.capacity() > KEPT_FRAMES {
            self.queue = VecDeque::new();
        }
        Some(first)
    }

    /// Queues a control frame in front of all that waits: behind the frame that the client has seen the
    /// beginning of, and behind other control frames.
    pub fn push_control(&mut self, control: Bytes) {
        self.bytes += control.len();
        self.own += control.len();
        let mut place = 0;
        if self.begun {
            place = 1;
            let end = self.end_of_begun();
            let first = &mut self.queue[0];
            if end < first.len() {
                let source = first.source;
                let frame = first.frame.split_off(end);
                self.queue.insert(1, Entry::new(frame, source));
            }
        }
        let is_control = |entry: &&Entry| entry.source == Source::Control;
        place += self.queue.iter().skip(place).take_while(is_control).count();
        let before = place
            .checked_sub(1)
            .filter(|_| place > usize::from(self.begun));
        if let Some(last) = before.map(|at| &mut self.queue[at])
            && last.frame.len() + control.len() <= JOINED_BYTES
        {
            last.frame = [&last.frame[..], &control].concat().into();
            return;
        }
        self.queue
            .insert(place, Entry::new(control, Source::Control));
    }

    /// Does a control frame wait?
    pub fn has_control(&self) -> bool {
        // Behind one entry at most: the begun one.
        let mut front = self.queue.iter().take(2);
        front.any(|entry| entry.source == Source::Control)
    }

    /// The client has seen the beginning of the first entry, although `advance` did not say so.
    pub fn begin(&mut self) {
        self.begun = !self.queue.is_empty();
    }

    /// The end of the frame that the socket takes next, in bytes of the first entry.
    fn end_of_begun(&self) -> usize {
        let first = &self.queue[0];
        if self.rest == ALL || first.header.is_some() {
            return first.len();
        }
        let (begun, whole) = first.frame.split_at(self.rest as usize);
        match self.written.checked_sub(begun.len()) {
            Some(at) => begun.len() + frame::end_of_frame_at(whole, at),
            None => begun.len(),
        }
    }

    /// Takes out the oldest frame, whole. Only for an outbox whose frames never begin to go out in part.
    pub fn pop(&mut self) -> Option<Bytes> {
        debug_assert!(!self.begun, "no test writes parts of frames");
        let first = self.take_first()?;
        debug_assert!(first.header.is_none(), "nor are there large messages");
        self.bytes -= first.len();
        Some(first.frame)
    }

    /// The bytes that wait, oldest first, for one vectored write.
    pub fn slices<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>, most: usize) {
        let mut skip = self.written;
        for entry in self.queue.iter().take(most) {
            let header = entry.header();
            let in_header = header.len().min(skip);
            if in_header < header.len() {
                slices.push(IoSlice::new(&header[in_header..]));
            }
            let in_frame = mem::take(&mut skip) - in_header;
            slices.push(IoSlice::new(&entry.frame[in_frame..]));
        }
    }

    /// The socket took `count` bytes of the slices. Returns how many of them were the handler's,
    /// counted when their frame is complete.
    pub fn advance(&mut self, count: usize) -> usize {
        let mut handlers = 0;
        self.bytes -= count;
        self.written += count;
        self.begun |= count > 0;
        while let Some(first) = self.queue.front() {
            let len = first.len();
            if self.written < len {
                break;
            }
            self.written -= len;
            if first.source.is_handlers() {
                handlers += len;
            }
            self.take_first();
            self.begun = self.written > 0;
            self.rest = 0;
        }
        if self.queue.is_empty() {
            debug_assert_eq!(
                (self.bytes, self.written, self.own),
                (0, 0, 0),
                "an empty outbox owes nothing"
            );
        }
        handlers
    }
}

#[cfg(test)]
mod tests;
