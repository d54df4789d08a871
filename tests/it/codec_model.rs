//! The WebSocket decoder against a model: whatever is sent, and however the network cuts it, the
//! events are those that the model expects.

use fanbus::actors::frame::{Decode, Event, Kind};
use fanbus::http::websocket::codec::Decoder;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// An event that owns its bytes, or how it ended.
#[derive(Clone, Eq, PartialEq, Debug)]
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
            Event::Message { kind, payload } => {
                if kind == Kind::Text {
                    std::str::from_utf8(payload).expect("text is promised to be UTF-8");
                }
                Self::Message(kind, payload.into())
            }
            Event::Ping(payload) => Self::Ping(payload.into()),
            Event::Pong(payload) => Self::Pong(payload.into()),
            Event::Close { code, reason } => Self::Close(code, reason.into()),
        }
    }
}

/// A client's frame, masked with a key that depends on its length so that keys differ.
pub(crate) fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let mut bytes = vec![first_byte];
    match len {
        0..=125 => bytes.push(0x80 | len as u8),
        126..=0xFFFF => {
            bytes.push(0x80 + 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 + 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let key = [0x5A, 0xC3 ^ len as u8, 0x0F, 0x91];
    bytes.extend(key);
    bytes.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    bytes
}

/// Feeds the pieces one after another and collects what comes out, up to the end of the session.
fn decode<'a>(limit: usize, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Outcome> {
    decode_with(Decoder::new(limit), pieces)
}

/// The same with a decoder that may differ from the usual one.
pub(crate) fn decode_with<'a>(
    mut decoder: Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(event)) => outcomes.push(event.into()),
                Ok(None) => break,
                Err(violation) => {
                    assert!(violation.reason.len() <= 123);
                    outcomes.push(Outcome::Violation(violation.code));
                }
            }
        }
        assert!(input.is_empty(), "all of the input is taken");
    }
    outcomes
}

pub(crate) fn decode_all(limit: usize, bytes: &[u8]) -> Vec<Outcome> {
    decode(limit, [bytes])
}

/// Decodes whole, in single bytes, and in two pieces at every cut; all must agree.
pub(crate) fn decode_cut_everywhere(limit: usize, bytes: &[u8]) -> Vec<Outcome> {
    cut_everywhere(|| Decoder::new(limit), bytes)
}

pub(crate) fn cut_everywhere(decoder: impl Fn() -> Decoder, bytes: &[u8]) -> Vec<Outcome> {
    let whole = decode_with(decoder(), [bytes]);
    let in_bytes = decode_with(decoder(), bytes.chunks(1));
    assert_eq!(in_bytes, whole, "in single bytes");
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        let in_two = decode_with(decoder(), [head, tail]);
        assert_eq!(in_two, whole, "cut at {cut}");
    }
    whole
}

fn decode_cut_at(limit: usize, bytes: &[u8], cuts: &[Index]) -> Vec<Outcome> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    decode(limit, cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]))
}

/// What a well-behaved client may do.
#[derive(Clone, Debug)]
enum Action {
    /// A message, cut into fragments at these places, with this ping after each fragment.
    Message {
        kind: Kind,
        payload: Vec<u8>,
        cuts: Vec<Index>,
        between: Option<Vec<u8>>,
    },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

impl Action {
    fn encode(&self, bytes: &mut Vec<u8>, expected: &mut Vec<Outcome>) {
        match self {
            Self::Ping(payload) => {
                bytes.extend(frame(0x89, payload));
                expected.push(Outcome::Ping(payload.clone()));
            }
            Self::Pong(payload) => {
                bytes.extend(frame(0x8A, payload));
                expected.push(Outcome::Pong(payload.clone()));
            }
            Self::Message {
                kind,
                payload,
                cuts,
                between,
            } => {
                let mut ends: Vec<usize> = cuts
                    .iter()
                    .map(|cut| cut.index(payload.len() + 1))
                    .collect();
                ends.sort_unstable();
                ends.push(payload.len());
                let mut start = 0;
                for (i, &end) in ends.iter().enumerate() {
                    let is_last = i + 1 == ends.len();
                    let opcode = match (i, kind) {
                        (0, Kind::Text) => 0x1,
                        (0, Kind::Binary) => 0x2,
                        _ => 0x0,
                    };
                    let fin = if is_last { 0x80 } else { 0 };
                    bytes.extend(frame(fin | opcode, &payload[start..end]));
                    if let Some(ping) = between.as_ref().filter(|_| !is_last) {
                        Self::Ping(ping.clone()).encode(bytes, expected);
                    }
                    start = end;
                }
                expected.push(Outcome::Message(*kind, payload.clone()));
            }
        }
    }
}

fn action() -> impl Strategy<Value = Action> {
    let text = ".{0,200}".prop_map(|text| (Kind::Text, text.into_bytes()));
    let binary = vec(any::<u8>(), 0..400).prop_map(|bytes| (Kind::Binary, bytes));
    let control = || vec(any::<u8>(), 0..=125);
    let message = (
        prop_oneof![text, binary],
        vec(any::<Index>(), 0..5),
        proptest::option::of(control()),
    )
        .prop_map(|((kind, payload), cuts, between)| Action::Message {
            kind,
            payload,
            cuts,
            between,
        });
    prop_oneof![
        4 => message,
        1 => control().prop_map(Action::Ping),
        1 => control().prop_map(Action::Pong),
    ]
}

fn session() -> impl Strategy<Value = (Vec<u8>, Vec<Outcome>)> {
    (vec(action(), 0..8), any::<bool>()).prop_map(|(actions, closes)| {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for action in actions {
            action.encode(&mut bytes, &mut expected);
        }
        if closes {
            bytes.extend(frame(0x88, b"\x03\xE8done"));
            expected.push(Outcome::Close(Some(1000), "done".into()));
        }
        (bytes, expected)
    })
}

proptest! {
    #[test]
    fn a_well_behaved_client_is_understood_however_its_bytes_are_cut(
        (bytes, expected) in session(),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        prop_assert_eq!(&decode_all(10_000, &bytes), &expected);
        prop_assert_eq!(&decode_cut_at(10_000, &bytes, &cuts), &expected);
        prop_assert_eq!(&decode(10_000, bytes.chunks(1)), &expected);
    }

    #[test]
    fn a_damaged_session_ends_the_same_way_however_its_bytes_are_cut(
        (mut bytes, _) in session(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        cuts in vec(any::<Index>(), 0..20),
        limit in 0_usize..500,
    ) {
        prop_assume!(!bytes.is_empty());
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let whole = decode_all(limit, &bytes);
        prop_assert_eq!(&decode_cut_at(limit, &bytes, &cuts), &whole);
        prop_assert_eq!(&decode(limit, bytes.chunks(1)), &whole);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), limit in any::<usize>()) {
        decode_cut_everywhere(limit, &bytes);
    }
}
