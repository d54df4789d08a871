//! The check of the WebSocket decoder against a model: valid frames of a client and then any bytes, cut anywhere.
//!
//! The model is RFC 6455, read once from front to back, with all bytes present. The fuzzer and `cargo test` play the
//! same scripts.

use arbitrary::Arbitrary;
use fanbus::actors::frame::{Decode, Event, Kind};
use fanbus::http::websocket::codec::Decoder;

/// An action of a well-behaved client.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) enum Action {
    /// A message, with a fragment for each size, and a ping after each fragment but the last.
    Text(String, Vec<u8>, Option<u8>),
    Binary(Vec<u8>, Vec<u8>, Option<u8>),
    Ping(u8),
    Pong(u8),
}

#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Script {
    pub(crate) limit: u16,
    pub(crate) key: [u8; 4],
    pub(crate) actions: Vec<Action>,
    /// The bytes behind the actions.
    pub(crate) anything: Vec<u8>,
    /// The lengths of the chunks in which the bytes arrive, repeated.
    pub(crate) pieces: Vec<u8>,
}

/// An event that owns its bytes, or the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Violation(u16),
}

impl From<Event<'_>> for Outcome {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message { kind, payload } => Self::Message(kind, payload.into()),
            Event::Ping(payload) => Self::Ping(payload.into()),
            Event::Pong(payload) => Self::Pong(payload.into()),
            Event::Close { code, reason } => Self::Close(code, reason.into()),
        }
    }
}

/// Passes the chunks in, and collects the events, up to the end of the session.
pub(crate) fn decode<'a>(
    mut decoder: Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.decode(&mut input) {
                Ok(None) => break,
                Ok(Some(event)) => outcomes.push(event.into()),
                Err(violation) => {
                    assert!(violation.reason().len() <= 123, "a close frame takes it");
                    outcomes.push(Outcome::Violation(violation.code()));
                }
            }
        }
        assert!(input.is_empty(), "all of the input is taken");
    }
    outcomes
}

/// A client's frame.
pub(crate) fn frame(first_byte: u8, key: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            bytes.push(0x80 + 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 + 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(key);
    bytes.extend(masked(payload, key));
    bytes
}

fn masked(payload: &[u8], key: [u8; 4]) -> impl Iterator<Item = u8> {
    payload
        .iter()
        .zip(key.into_iter().cycle())
        .map(|(byte, key)| byte ^ key)
}

/// The meaning of `bytes` for a server that takes messages of `limit` bytes, by RFC 6455: events, up to a close frame
/// or to the first byte that shows a violation.
pub(crate) fn meaning(limit: usize, bytes: &[u8]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut reading = Reading {
        limit,
        rest: bytes,
        message: None,
    };
    loop {
        match reading.frame() {
            Ok(outcome) => outcomes.extend(outcome),
            Err(Stop::InTheMiddle) => return outcomes,
            Err(Stop::Violation(code)) => {
                outcomes.push(Outcome::Violation(code));
                return outcomes;
            }
        }
        if let Some(Outcome::Close(..)) = outcomes.last() {
            return outcomes;
        }
    }
}

enum Stop {
    /// There are no more bytes.
    InTheMiddle,
    Violation(u16),
}

/// Fails with a close code if the rule is broken.
fn rule(is_kept: bool, code: u16) -> Result<(), Stop> {
    if is_kept {
        Ok(())
    } else {
        Err(Stop::Violation(code))
    }
}

struct Reading<'b> {
    limit: usize,
    rest: &'b [u8],
    /// The message that has begun.
    message: Option<(Kind, Vec<u8>)>,
}

impl<'b> Reading<'b> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Stop::InTheMiddle)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn payload(&mut self, len: u64, key: [u8; 4]) -> (Vec<u8>, bool) {
        let is_whole = len <= self.rest.len() as u64;
        let (payload, rest): (&'b [u8], _) = self.rest.split_at(if is_whole {
            len as usize
        } else {
            self.rest.len()
        });
        self.rest = rest;
        (masked(payload, key).collect(), is_whole)
    }

    /// Sections 5.2, 5.4, 5.5 and 8.1. Nothing: a fragment that does not end its message.
    fn frame(&mut self) -> Result<Option<Outcome>, Stop> {
        let [first] = self.take()?;
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0F);
        rule(first & 0x70 == 0, 1002)?;
        rule(matches!(opcode, 0..=2 | 8..=10), 1002)?;
        let is_control = opcode >= 8;
        rule(is_final || !is_control, 1002)?;
        rule(is_control || (opcode == 0) == self.message.is_some(), 1002)?;

        let [second] = self.take()?;
        rule(second & 0x80 != 0, 1002)?;
        rule(second & 0x7F <= 125 || !is_control, 1002)?;
        let (len, least) = match second & 0x7F {
            126 => (u64::from(u16::from_be_bytes(self.take()?)), 126),
            127 => (u64::from_be_bytes(self.take()?), 1 << 16),
            short => (u64::from(short), 0),
        };
        rule(len >= least && len < 1 << 63, 1002)?;
        let had = self.message.as_ref().map_or(0, |(_, had)| had.len());
        rule(is_control || had as u64 + len <= self.limit as u64, 1009)?;

        let key = self.take()?;
        let (payload, is_whole) = self.payload(len, key);
        if is_control {
            return match (is_whole, opcode) {
                (false, _) => Err(Stop::InTheMiddle),
                (true, 8) => Ok(Some(close(&payload)?)),
                (true, 9) => Ok(Some(Outcome::Ping(payload))),
                (true, _) => Ok(Some(Outcome::Pong(payload))),
            };
        }
        let begun = if opcode == 1 {
            Kind::Text
        } else {
            Kind::Binary
        };
        let (kind, message) = self.message.get_or_insert((begun, Vec::new()));
        message.extend(payload);
        let ends = is_whole && is_final;
        if let (Kind::Text, Err(error)) = (*kind, std::str::from_utf8(message)) {
            // The next fragment may continue a character.
            rule(error.error_len().is_none() && !ends, 1007)?;
        }
        if !is_whole {
            return Err(Stop::InTheMiddle);
        }
        let message = self.message.take_if(|_| is_final);
        Ok(message.map(|(kind, payload)| Outcome::Message(kind, payload)))
    }
}

/// Section 5.5.1, and 7.4 with the codes that were registered since.
fn close(payload: &[u8]) -> Result<Outcome, Stop> {
    if payload.is_empty() {
        return Ok(Outcome::Close(None, String::new()));
    }
    let Some((code, reason)) = payload.split_first_chunk() else {
        return Err(Stop::Violation(1002));
    };
    let code = u16::from_be_bytes(*code);
    rule(
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999),
        1002,
    )?;
    let reason = String::from_utf8(reason.into()).map_err(|_| Stop::Violation(1007))?;
    Ok(Outcome::Close(Some(code), reason))
}

/// The bytes of a valid client, and their meaning.
#[derive(Default)]
struct Client {
    key: [u8; 4],
    bytes: Vec<u8>,
    meant: Vec<Outcome>,
}

impl Client {
    fn frame(&mut self, first_byte: u8, payload: &[u8]) {
        self.bytes.extend(frame(first_byte, self.key, payload));
    }

    fn ping(&mut self, len: u8) {
        let payload = vec![len; usize::from(len % 126)];
        self.frame(0x89, &payload);
        self.meant.push(Outcome::Ping(payload));
    }

    fn message(&mut self, kind: Kind, payload: &[u8], sizes: &[u8], between: Option<u8>) {
        let mut opcode = if kind == Kind::Text { 0x1 } else { 0x2 };
        let mut rest = payload;
        for size in sizes {
            let (fragment, after) = rest.split_at(rest.len().min((*size).into()));
            self.frame(opcode, fragment);
            if let Some(len) = between {
                self.ping(len);
            }
            (opcode, rest) = (0, after);
        }
        self.frame(0x80 | opcode, rest);
        self.meant.push(Outcome::Message(kind, payload.into()));
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Ping(len) => self.ping(*len),
            Action::Pong(len) => {
                let payload = vec![*len; usize::from(len % 126)];
                self.frame(0x8A, &payload);
                self.meant.push(Outcome::Pong(payload));
            }
            Action::Text(text, sizes, between) => {
                self.message(Kind::Text, text.as_bytes(), sizes, *between);
            }
            Action::Binary(bytes, sizes, between) => {
                self.message(Kind::Binary, bytes, sizes, *between);
            }
        }
    }
}

impl Script {
    /// Decodes the bytes whole and cut: both times the meaning must be that of the model.
    pub(crate) fn play(&self) {
        self.play_damaged(|_| {});
    }

    /// The same with damaged bytes.
    pub(crate) fn play_damaged(&self, damage: impl FnOnce(&mut [u8])) {
        let mut client = Client {
            key: self.key,
            ..Client::default()
        };
        self.actions.iter().for_each(|action| client.act(action));
        let limit = usize::from(self.limit);
        if client.meant.iter().all(|outcome| fits(outcome, limit)) {
            let meaning = meaning(limit, &client.bytes);
            assert_eq!(meaning, client.meant, "the model mistakes an honest client");
        }
        client.bytes.extend(&self.anything);
        let bytes = &mut client.bytes[..];
        damage(bytes);

        let meaning = meaning(limit, bytes);
        let whole = decode(Decoder::new(limit), [&*bytes]);
        assert_eq!(whole, meaning, "the model disagrees");
        let cut = decode(Decoder::new(limit), self.cut(bytes));
        assert_eq!(cut, meaning, "it depends on how the bytes are cut");
    }

    fn cut<'b>(&self, mut rest: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        let mut sizes = self.pieces.iter().cycle();
        std::iter::from_fn(move || {
            let size = sizes.next().map_or(1, |size| usize::from(*size) + 1);
            let (piece, after) = rest.split_at(rest.len().min(size));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        })
    }
}

fn fits(outcome: &Outcome, limit: usize) -> bool {
    !matches!(outcome, Outcome::Message(_, payload) if payload.len() > limit)
}
