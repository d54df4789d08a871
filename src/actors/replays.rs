//! The replays that clients get when they reconnect. Each record is held once for all of them, and once more in
//! each form that some of them get: deflated, or as an event.
//!
//! A crowd that reconnects at once requests the same records, or at least no others than the bus has. So its
//! outboxes hold no more than that, whatever the size of the crowd. Small messages are copied for each client: if
//! they were shared, each would need an entry of its own in each outbox, which takes no less memory.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::deflate::{self, Window};
use super::outbox::FRAME_OVERHEAD;
use super::queues::Gauge;
use super::sse;
use crate::ipc::Replay;

/// Messages from this many bytes on are shared.
const LEAST_SHARED: usize = 4 * FRAME_OVERHEAD;

/// Small messages that follow each other are one piece, up to so many bytes.
const PIECE_BYTES: usize = 4096;

/// A part of a replay.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Small messages, one behind the other, for this client alone.
    Own(Bytes),
    /// One message, which other clients may have too.
    Shared {
        /// Its offset on the bus.
        offset: u64,
        /// Its frame, or the message as an event.
        bytes: Bytes,
    },
}

impl Piece {
    /// The bytes that are sent.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Own(bytes) | Self::Shared { bytes, .. } => bytes,
        }
    }
}

/// Pieces, oldest first, while they are put together.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    whole: Vec<Piece>,
    /// Bytes that follow them and are not a piece yet.
    pub(super) small: Vec<u8>,
}

impl Pieces {
    pub(super) fn push(&mut self, piece: Piece) {
        match piece {
            Piece::Own(bytes) => {
                self.small.extend_from_slice(&bytes);
                if self.small.len() >= PIECE_BYTES {
                    self.end_small();
                }
            }
            shared @ Piece::Shared { .. } => {
                self.end_small();
                self.whole.push(shared);
            }
        }
    }

    pub(super) fn finish(mut self) -> Vec<Piece> {
        self.end_small();
        self.whole
    }

    fn end_small(&mut self) {
        if !self.small.is_empty() {
            let small = mem::take(&mut self.small);
            self.whole.push(Piece::Own(small.into()));
        }
    }
}

/// The form in which a record is held.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Form {
    Plain,
    /// Plain, if it does not become smaller.
    Deflated,
    Event,
}

/// By the offset of the record.
type Records = HashMap<(u64, Form), Bytes>;

/// The records of replays, each held once. Other threads share records here, the I/O thread frees them.
#[derive(Debug, Default)]
pub struct Replays {
    gauge: Gauge,
    /// The records in outboxes, and those that were in one at the last sweep.
    records: Mutex<Records>,
}

impl Replays {
    /// Counts the bytes that are held here, and in queues.
    pub fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// The frames of the past, oldest first, shared with the outboxes that hold the same ones.
    pub fn share(&self, past: &Replay) -> Vec<Piece> {
        let mut pieces = Pieces::default();
        for record in &past.records {
            let frame = &past.frames[record.frame.clone()];
            let copy = || Bytes::copy_from_slice(frame);
            pieces.push(if frame.len() < LEAST_SHARED {
                Piece::Own(copy())
            } else {
                let bytes = self.held(record.offset, Form::Plain, copy);
                debug_assert_eq!(bytes, frame, "an offset is one record");
                let offset = record.offset;
                Piece::Shared { offset, bytes }
            });
        }
        pieces.finish()
    }

    /// A frame as an event, shared with the outboxes that hold the same one.
    pub(super) fn event(&self, frame: &[u8], epoch: u64, offset: u64) -> Piece {
        let write = || sse::event(frame, epoch, offset);
        if frame.len() < LEAST_SHARED {
            return Piece::Own(write());
        }
        let bytes = self.held(offset, Form::Event, write);
        Piece::Shared { offset, bytes }
    }

    /// I/O thread: the bytes that a client with this window gets for a shared frame. They are deflated for the first
    /// client, and shared with the others.
    pub(super) fn deflated(&self, offset: u64, frame: &Bytes, window: Window) -> Bytes {
        if !deflate::is_for_window(frame, window) {
            return frame.clone();
        }
        self.held(offset, Form::Deflated, || {
            deflate::deflated(frame).unwrap_or_else(|| Bytes::copy_from_slice(frame))
        })
    }

    /// The record in this form. It is encoded if it is not held yet.
    fn held(&self, offset: u64, form: Form, encode: impl FnOnce() -> Bytes) -> Bytes {
        let key = (offset, form);
        if let Some(bytes) = self.records().get(&key) {
            return bytes.clone();
        }
        // Without the lock, so that other threads do not wait. Another thread may have been quicker.
        let bytes = encode();
        let mut records = self.records();
        let held = records.entry(key).or_insert_with(|| {
            self.gauge.add(bytes.len());
            bytes
        });
        held.clone()
    }

    /// I/O thread, in each tick: frees the records that wait in no outbox any more.
    pub(super) fn sweep(&self) {
        let mut records = self.records();
        if records.is_empty() {
            return;
        }
        records.retain(|_, frame| {
            let is_wanted = !frame.is_unique();
            if !is_wanted {
                self.gauge.subtract(frame.len());
            }
            is_wanted
        });
        if records.is_empty() {
            *records = HashMap::new();
        }
    }

    /// Held for a few instructions, or for a sweep.
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::ReplayRecord;

    fn past(offsets: &[u64]) -> Replay {
        let mut past = Replay::default();
        for &offset in offsets {
            let start = past.frames.len();
            past.frames.extend(format!("record {offset:>300}").bytes());
            past.records.push(ReplayRecord {
                offset,
                flags: 0,
                frame: start..past.frames.len(),
            });
        }
        past
    }

    #[test]
    fn a_record_is_held_once_and_until_nobody_waits_for_it() {
        let replays = Replays::default();
        let one = replays.share(&past(&[1, 2, 3]));
        let other = replays.share(&past(&[2, 3, 4]));
        assert_eq!(one[1].bytes().as_ptr(), other[0].bytes().as_ptr());
        assert_eq!(*one[1].bytes(), *format!("record {:>300}", 2));
        assert_eq!(replays.gauge().held(), 4 * 307);
        drop(one);
        replays.sweep();
        assert_eq!(replays.gauge().held(), 3 * 307);
        drop(other);
        replays.sweep();
        assert_eq!(replays.gauge().held(), 0);
        assert_eq!(replays.records().capacity(), 0);
    }
}
