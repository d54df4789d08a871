//! The sends that a session and its handler make to the client.

use std::io::IoSlice;

use bytes::Bytes;

use super::SessionWriter;
use crate::actors::deflate::{self, Encoding};
use crate::actors::frame::{self, ControlFrame, Kind};
use crate::actors::outbox::Source;
use crate::actors::replays::Piece;
use crate::actors::sse::{self, Position};

impl SessionWriter {
    /// Sends whole messages of the handler, framed as plain ones, in this client's encoding.
    pub fn send_messages(&self, frames: &[u8]) {
        let Encoding::Deflated(window) = self.encoding else {
            return self.send(frames, Source::Handler);
        };
        let deflated = deflate::all_deflated(frames, window);
        // The handler has counted the plain frames.
        self.credit(frames.len() - deflated.len(), Source::Handler);
        self.send(&deflated, Source::Handler);
    }

    /// Sends a large message of the handler, in one write with its header, without a copy.
    pub fn send_large(&self, kind: Kind, payload: Bytes) {
        let header = frame::message_header(kind, payload.len());
        if let Encoding::Deflated(_) = self.encoding {
            return self.send_messages(&[&*header, &payload].concat());
        }
        let len = header.len() + payload.len();
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() || state.broken {
            drop(state);
            return self.credit(len, Source::Handler);
        }
        let before = state.outbox.own_cost();
        let slices = [IoSlice::new(&header), IoSlice::new(&payload)];
        let taken = self.write_now(&mut state, len, |it| it.try_write_vectored(&slices));
        self.credit(taken, Source::Handler);
        if state.broken {
            self.credit(len - taken, Source::Handler);
        } else if taken < len {
            state.outbox.push_large(header, payload, taken);
            self.settle(&state, before);
            self.note_held_back(&mut state);
            state.wake();
        }
        if self.link.is_ending() {
            state.wake(); // the session waits for this answer
        }
    }

    /// Sends messages of a topic's past. They are framed as plain ones, and the handler has counted them.
    pub fn send_past(&self, pieces: Vec<Piece>) {
        let mut state = self.state.borrow_mut();
        let len_of = |pieces: &[Piece]| pieces.iter().map(|it| it.bytes().len()).sum::<usize>();
        if state.closed.is_some() || state.broken {
            drop(state);
            return self.credit(len_of(&pieces), Source::Past);
        }
        // The pieces are not written here: bytes that the socket does not take stay shared, and one wake-up serves
        // all of them.
        let before = state.outbox.own_cost();
        let counted = len_of(&pieces);
        let mut queued = 0;
        for piece in pieces {
            let (bytes, source) = self.encoded(piece);
            queued += bytes.len();
            let pushed = state.outbox.push(bytes, source);
            debug_assert!(pushed.is_ok(), "only published frames can overflow");
        }
        self.settle(&state, before);
        state.wake();
        drop(state);
        self.credit(counted - queued, Source::Past);
    }

    /// Messages of the past in this client's encoding, and the source with which they wait.
    pub(super) fn encoded(&self, piece: Piece) -> (Bytes, Source) {
        let Encoding::Deflated(window) = self.encoding else {
            return match piece {
                Piece::Own(bytes) => (bytes, Source::Handler),
                Piece::Shared { bytes, .. } => (bytes, Source::Past),
            };
        };
        match piece {
            Piece::Own(bytes) => (
                deflate::all_deflated(&bytes, window).into(),
                Source::Handler,
            ),
            Piece::Shared { offset, bytes } => {
                let replays = &self.turn_queue.replays;
                (replays.deflated(offset, &bytes, window), Source::Past)
            }
        }
    }

    /// Event stream: queues its first pieces.
    pub fn begin_events(&self, pieces: Vec<Piece>) {
        let mut state = self.state.borrow_mut();
        let before = state.outbox.own_cost();
        for piece in pieces {
            let (bytes, source) = match piece {
                Piece::Own(bytes) => (bytes, Source::Session),
                Piece::Shared { bytes, .. } => (bytes, Source::Beginning),
            };
            let pushed = state.outbox.push(bytes, source);
            debug_assert!(pushed.is_ok(), "only published frames can overflow");
        }
        self.settle(&state, before);
    }

    /// Sends whole frames of the handler or of the session itself, as they are.
    pub fn send(&self, frames: &[u8], source: Source) {
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() || state.broken {
            drop(state);
            self.credit(frames.len(), source);
            return;
        }
        self.send_or_queue(&mut state, frames, source);
        if source == Source::Handler && self.link.is_ending() {
            state.wake(); // the session waits for this answer
        }
    }

    /// Sends a ping, which the client must answer. `position`: everything before it has been delivered.
    pub fn ping(&self, position: Position) {
        match self.encoding {
            Encoding::Events => self.send(&sse::ping(position), Source::Session),
            Encoding::Plain | Encoding::Deflated(_) => self.send_control(&frame::ping(b"")),
        }
    }

    /// Sends an empty message. The program of the client sees it; it does not see pings.
    pub fn tick(&self) {
        self.send(&frame::message_header(Kind::Text, 0), Source::Session);
    }

    /// Sends a ping or a pong, in front of what waits.
    pub fn send_control(&self, frame: &ControlFrame) {
        let mut state = self.state.borrow_mut();
        if state.closed.is_some() || state.broken {
            return;
        }
        if state.outbox.is_empty() {
            self.send_or_queue(&mut state, frame, Source::Control);
        } else {
            let before = state.outbox.own_cost();
            state.outbox.push_control(Bytes::copy_from_slice(frame));
            self.settle(&state, before);
        }
    }
}
