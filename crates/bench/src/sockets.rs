//! The sockets that read and write whole messages on many WebSocket connections.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{BenchError, Outcome};
use super::frame::{self, BINARY, CLOSE, CONTINUATION, PING, PONG, Parsed, TEXT};
use super::inflate::Inflater;
use super::options::Options;
use super::pool::{Happening, Next, Pool};
use super::target::Target;
use super::upgrade::Upgrade;
use super::watch::Pulse;

/// The number of bytes that a server may put around a message of the driver.
const SPARE_BYTES: usize = 64 * 1024;

/// The WebSocket connections by number, and the state that they share.
pub(super) struct Sockets {
    pub(super) pool: Pool,
    states: Vec<State>,
    upgrades: Vec<Upgrade>,
    hello: Vec<u8>,
    greeting: Vec<u8>,
    pub(super) incoming: Incoming,
}

/// The counts of messages and closes on all connections.
pub(super) struct Incoming {
    inflater: Inflater,
    max_bytes: usize,
    pub(super) messages: u64,
    /// The number of connections that the server closed, by close code; `None` without a code.
    pub(super) closed: BTreeMap<Option<u16>, u64>,
}

#[derive(Copy, Clone, Eq, PartialEq)]
enum Phase {
    Upgrading,
    Open,
    Closed,
}

struct State {
    phase: Phase,
    /// The index of the upgrade that it requested.
    upgrade: usize,
    /// The parts of an incomplete message, and whether they are compressed.
    parts: Vec<u8>,
    is_deflated: bool,
    /// Whether the server has sent its greeting.
    is_greeted: bool,
    /// Whether it is ready for its purpose, and counted as ready.
    is_ready: bool,
}

impl Sockets {
    pub(super) fn new(options: &Options) -> Outcome<Self> {
        let mut hello = Vec::new();
        for text in &options.hello {
            frame::write(TEXT, text.as_bytes(), &mut hello);
        }
        let max_bytes = options.bytes + options.envelope.len() + options.prefix.len() + SPARE_BYTES;
        Ok(Self {
            pool: Pool::new()?,
            states: Vec::new(),
            upgrades: Vec::new(),
            hello,
            greeting: options.greeting.as_bytes().to_vec(),
            incoming: Incoming {
                inflater: Inflater::new(max_bytes),
                max_bytes,
                messages: 0,
                closed: BTreeMap::new(),
            },
        })
    }

    /// Opens further connections, and waits for their greetings. Ignores other messages that arrive
    /// meanwhile.
    pub(super) fn open(
        &mut self,
        target: &Target,
        options: &Options,
        count: usize,
        pulse: &mut Pulse<'_>,
    ) -> Outcome<()> {
        self.open_hearing(target, options, count, pulse, |_, _| {})
    }

    /// Like `open`, but it passes each message that arrives meanwhile to `hear`, with the number of
    /// its connection.
    pub(super) fn open_hearing(
        &mut self,
        target: &Target,
        options: &Options,
        count: usize,
        pulse: &mut Pulse<'_>,
        mut hear: impl FnMut(usize, &[u8]),
    ) -> Outcome<()> {
        let upgrade = self.upgrades.len();
        self.upgrades.push(Upgrade::new(target, options));
        self.states
            .resize_with(self.states.len() + count, || State {
                phase: Phase::Upgrading,
                upgrade,
                parts: Vec::new(),
                is_deflated: false,
                is_greeted: options.greeting.is_empty(),
                is_ready: false,
            });
        let Self {
            pool,
            states,
            upgrades,
            hello,
            greeting,
            incoming,
        } = self;
        pool.open(target, count, pulse, |index, happening, unsent| {
            let state = &mut states[index];
            if let (Happening::Ended(error), Phase::Upgrading) = (&happening, state.phase) {
                return Err(target.refusal(error.as_ref()));
            }
            let upgrade = &upgrades[state.upgrade];
            let mut is_greeted = state.is_greeted;
            let next = state.turn(
                &happening,
                unsent,
                upgrade,
                hello,
                incoming,
                &mut |message, _| {
                    is_greeted |= message.starts_with(greeting);
                    hear(index, message);
                },
            )?;
            state.is_greeted = is_greeted;
            Ok(state.readiness(&next))
        })
    }

    /// The buffer for frames of a connection; [`Pool::flush`] sends them. None if the connection is
    /// over, or has too many unsent bytes.
    pub(super) fn outgoing(&mut self, index: usize) -> Option<&mut Vec<u8>> {
        self.pool.outgoing(index)
    }

    pub(super) fn flush(&mut self, index: usize) -> Outcome<()> {
        self.pool.flush(index)
    }

    /// Closes the connections in order, so that the server does not log clients that vanished.
    pub(super) fn leave(mut self) -> Outcome<()> {
        let normal = 1000_u16.to_be_bytes();
        for index in 0..self.states.len() {
            if let Some(unsent) = self.pool.outgoing(index) {
                frame::write(CLOSE, &normal, unsent);
                self.pool.flush(index)?;
            }
        }
        Ok(())
    }

    /// Waits for messages, at most for `timeout`. Passes each message to `receive`, with the number
    /// of the connection and a buffer for frames to send in return.
    pub(super) fn turn(
        &mut self,
        timeout: Duration,
        mut receive: impl FnMut(usize, &[u8], &mut Vec<u8>),
    ) -> Outcome<()> {
        let Self {
            pool,
            states,
            upgrades,
            hello,
            incoming,
            ..
        } = self;
        pool.turn(timeout, |index, happening, unsent| {
            let state = &mut states[index];
            let upgrade = &upgrades[state.upgrade];
            state.turn(
                &happening,
                unsent,
                upgrade,
                hello,
                incoming,
                &mut |message, unsent| {
                    receive(index, message, unsent);
                },
            )
        })
    }
}

impl State {
    /// While connections are opened, a connection becomes ready once: when it is both upgraded and
    /// greeted.
    fn readiness(&mut self, next: &Next) -> Next {
        let taken = match *next {
            Next::Go(taken) | Next::Ready(taken) => taken,
            Next::End => return Next::End,
        };
        let is_open = self.phase != Phase::Upgrading;
        if self.is_ready || !is_open || !self.is_greeted {
            return Next::Go(taken);
        }
        self.is_ready = true;
        Next::Ready(taken)
    }

    fn turn(
        &mut self,
        happening: &Happening<'_>,
        unsent: &mut Vec<u8>,
        upgrade: &Upgrade,
        hello: &[u8],
        incoming: &mut Incoming,
        receive: &mut impl FnMut(&[u8], &mut Vec<u8>),
    ) -> Outcome<Next> {
        let bytes = match happening {
            Happening::Connected => {
                unsent.extend_from_slice(&upgrade.request);
                return Ok(Next::Go(0));
            }
            Happening::Ended(_) => {
                self.close(None, incoming);
                return Ok(Next::End);
            }
            Happening::Bytes(bytes) => bytes,
        };
        if self.phase != Phase::Upgrading {
            return self.frames(bytes, unsent, incoming, receive);
        }
        let Some(head) = upgrade.check(bytes)? else {
            return Ok(Next::Go(0));
        };
        self.phase = Phase::Open;
        unsent.extend_from_slice(hello);
        Ok(
            match self.frames(&bytes[head..], unsent, incoming, receive)? {
                Next::Go(taken) | Next::Ready(taken) => Next::Ready(head + taken),
                // It was ready, even if only for a moment: it counts as closed.
                Next::End => Next::Ready(bytes.len()),
            },
        )
    }

    fn close(&mut self, code: Option<u16>, incoming: &mut Incoming) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            *incoming.closed.entry(code).or_default() += 1;
        }
    }

    /// Handles the complete frames.
    fn frames(
        &mut self,
        bytes: &[u8],
        unsent: &mut Vec<u8>,
        incoming: &mut Incoming,
        receive: &mut impl FnMut(&[u8], &mut Vec<u8>),
    ) -> Outcome<Next> {
        let mut taken = 0;
        while self.phase == Phase::Open {
            let (frame, len) = match frame::parse(&bytes[taken..], incoming.max_bytes as u64) {
                Parsed::Whole(frame, len) => (frame, len),
                Parsed::Partial => return Ok(Next::Go(taken)),
                Parsed::Wrong(what) => return Err(broken(what)),
            };
            taken += len;
            match (frame.opcode, frame.is_final) {
                (TEXT | BINARY, true) => {
                    incoming.message(frame.payload, frame.is_deflated, unsent, receive)?;
                }
                (TEXT | BINARY, false) => {
                    self.parts.clear();
                    self.parts.extend_from_slice(frame.payload);
                    self.is_deflated = frame.is_deflated;
                }
                (CONTINUATION, is_final) => {
                    if self.parts.len() + frame.payload.len() > incoming.max_bytes {
                        return Err(broken("a message that is longer than any here"));
                    }
                    self.parts.extend_from_slice(frame.payload);
                    if is_final {
                        incoming.message(&self.parts, self.is_deflated, unsent, receive)?;
                        self.parts.clear();
                    }
                }
                (CLOSE, _) => {
                    let code = frame
                        .payload
                        .first_chunk()
                        .map(|code| u16::from_be_bytes(*code));
                    self.close(code, incoming);
                    return Ok(Next::End);
                }
                (PING, _) => frame::write(PONG, frame.payload, unsent),
                (PONG, _) => {}
                _ => return Err(broken("a frame of an unknown kind")),
            }
        }
        Ok(Next::End)
    }
}

fn broken(what: &str) -> BenchError {
    BenchError::Server(format!(
        "The server broke the WebSocket protocol: it sent {what}."
    ))
}

impl Incoming {
    fn message(
        &mut self,
        payload: &[u8],
        is_deflated: bool,
        unsent: &mut Vec<u8>,
        receive: &mut impl FnMut(&[u8], &mut Vec<u8>),
    ) -> Outcome<()> {
        self.messages += 1;
        if is_deflated {
            receive(self.inflater.inflate(payload)?, unsent);
        } else {
            receive(payload, unsent);
        }
        Ok(())
    }
}
