//! The WebSocket decoder: a client's honest frames and then anything, cut anywhere.
#![no_main]

use fanbus::actors::frame::{Decode, Event, Kind};
use fanbus::http::websocket::codec::Decoder;
use libfuzzer_sys::arbitrary::{self, Arbitrary};

/// What a well-behaved client may send.
#[derive(Arbitrary, Debug)]
enum Action {
    /// A message, a fragment of it for each size, with a ping after each fragment but the last.
    Text(String, Vec<u8>, Option<u8>),
    Binary(Vec<u8>, Vec<u8>, Option<u8>),
    Ping(u8),
    Pong(u8),
}

#[derive(Arbitrary, Debug)]
struct Script {
    limit: u16,
    key: [u8; 4],
    actions: Vec<Action>,
    /// Behind the actions.
    anything: Vec<u8>,
    /// How long the pieces are in which the bytes come, over and over.
    pieces: Vec<u8>,
}

/// An event that owns its bytes, or how it ended.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Outcome {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Violation(u16),
}

fn decode<'a>(limit: usize, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Outcome> {
    let mut decoder = Decoder::new(limit);
    let mut outcomes = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            outcomes.push(match decoder.decode(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Message { kind, payload })) => {
                    assert!(payload.len() <= limit);
                    assert!(kind == Kind::Binary || std::str::from_utf8(payload).is_ok());
                    Outcome::Message(kind, payload.into())
                }
                Ok(Some(Event::Ping(payload))) => Outcome::Ping(payload.into()),
                Ok(Some(Event::Pong(payload))) => Outcome::Pong(payload.into()),
                Ok(Some(Event::Close { code, reason })) => Outcome::Close(code, reason.into()),
                Err(violation) => Outcome::Violation(violation.code),
            });
        }
        assert!(input.is_empty(), "all of the input is taken");
    }
    outcomes
}

/// The bytes of a client, and what they are to be understood as.
#[derive(Default)]
struct Client {
    key: [u8; 4],
    bytes: Vec<u8>,
    expected: Vec<Outcome>,
}

impl Client {
    fn frame(&mut self, first_byte: u8, payload: &[u8]) {
        self.bytes.push(first_byte);
        match payload.len() {
            len @ 0..=125 => self.bytes.push(0x80 | len as u8),
            len @ 126..=0xFFFF => {
                self.bytes.push(0x80 | 126);
                self.bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                self.bytes.push(0x80 | 127);
                self.bytes.extend((len as u64).to_be_bytes());
            }
        }
        self.bytes.extend(self.key);
        let masked = payload.iter().zip(self.key.iter().cycle());
        self.bytes.extend(masked.map(|(byte, key)| byte ^ key));
    }

    fn ping(&mut self, len: u8) {
        let payload = vec![len; usize::from(len % 126)];
        self.frame(0x89, &payload);
        self.expected.push(Outcome::Ping(payload));
    }

    fn message(&mut self, kind: Kind, payload: &[u8], sizes: &[u8], between: Option<u8>) {
        let mut opcode = if kind == Kind::Text { 0x1 } else { 0x2 };
        let mut rest = payload;
        for size in sizes {
            let (fragment, after) = rest.split_at(rest.len().min((*size).into()));
            self.frame(opcode, fragment);
            between.into_iter().for_each(|len| self.ping(len));
            (opcode, rest) = (0, after);
        }
        self.frame(0x80 | opcode, rest);
        self.expected.push(Outcome::Message(kind, payload.into()));
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Ping(len) => self.ping(*len),
            Action::Pong(len) => {
                let payload = vec![*len; usize::from(len % 126)];
                self.frame(0x8A, &payload);
                self.expected.push(Outcome::Pong(payload));
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

libfuzzer_sys::fuzz_target!(|script: Script| {
    let mut client = Client {
        key: script.key,
        ..Client::default()
    };
    script.actions.iter().for_each(|action| client.act(action));
    client.bytes.extend(&script.anything);
    let bytes = &client.bytes[..];

    let limit = usize::from(script.limit);
    let whole = decode(limit, std::iter::once(bytes));
    let mut sizes = script.pieces.iter().cycle();
    let mut rest = bytes;
    let cut = decode(
        limit,
        std::iter::from_fn(|| {
            let size = sizes.next().map_or(1, |size| usize::from(*size) + 1);
            let (piece, after) = rest.split_at(rest.len().min(size));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        }),
    );
    assert_eq!(cut, whole, "it depends on how the bytes are cut");
    // Within the limits of size and of fragments, honest frames are understood.
    let is_refused = whole
        .iter()
        .any(|outcome| matches!(outcome, Outcome::Violation(1008 | 1009)));
    if !is_refused {
        assert_eq!(whole[..client.expected.len()], client.expected);
    }
});
