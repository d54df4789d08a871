//! The WebSocket decoder against the fuzzer's model (`fuzz/fuzz_targets/scripts`): whatever is sent,
//! and however the network cuts it, the events are those that the model expects. And the scripts
//! that the fuzzer kept, for the decoder and for the handshake.

#[path = "../../fuzz/fuzz_targets/scripts/codec.rs"]
mod codec;
#[path = "../../fuzz/fuzz_targets/scripts/corpus.rs"]
pub(crate) mod corpus;
#[path = "../../fuzz/fuzz_targets/scripts/handshake.rs"]
mod handshake;

use fanbus::http::websocket::codec::Decoder;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use self::codec::{Action, Script};
pub(crate) use self::codec::{Outcome, decode as decode_with};
use self::corpus::replay;

/// A client's frame, masked with a key that depends on its length so that keys differ.
pub(crate) fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x5A, 0xC3 ^ payload.len() as u8, 0x0F, 0x91];
    codec::frame(first_byte, key, payload)
}

pub(crate) fn decode_all(limit: usize, bytes: &[u8]) -> Vec<Outcome> {
    decode_with(Decoder::new(limit), [bytes])
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

fn action() -> impl Strategy<Value = Action> {
    let sizes = || vec(any::<u8>(), 0..5);
    let between = || option::of(any::<u8>());
    prop_oneof![
        2 => (".{0,200}", sizes(), between()).prop_map(|(text, sizes, ping)| Action::Text(text, sizes, ping)),
        2 => (vec(any::<u8>(), 0..400), sizes(), between())
            .prop_map(|(bytes, sizes, ping)| Action::Binary(bytes, sizes, ping)),
        1 => any::<u8>().prop_map(Action::Ping),
        1 => any::<u8>().prop_map(Action::Pong),
    ]
}

/// Any header, with lengths where the rules change, and the beginning of a payload.
fn crooked_frame() -> impl Strategy<Value = Vec<u8>> {
    let lens = [
        0,
        125,
        126,
        127,
        0xFFFF,
        0x1_0000,
        1 << 31,
        i64::MAX as u64,
        1 << 63,
    ];
    let known = prop::sample::select(&[0x81, 0x82, 0x01, 0x80, 0x89][..]);
    let first = prop_oneof![3 => known, 1 => any::<u8>()];
    let second = prop_oneof![any::<u8>(), Just(0xFE), Just(0xFF)];
    let header = (first, second, prop::sample::select(lens.to_vec()));
    (header, vec(any::<u8>(), 0..140)).prop_map(|((first, second, len), rest)| {
        let mut bytes = vec![first, second];
        match second & 0x7F {
            126 => bytes.extend((len as u16).to_be_bytes()),
            127 => bytes.extend(len.to_be_bytes()),
            _ => {}
        }
        bytes.extend(rest);
        bytes
    })
}

fn script(limits: std::ops::Range<u16>) -> impl Strategy<Value = Script> {
    let anything = prop_oneof![
        Just(Vec::new()),
        Just(frame(0x88, b"\x03\xE8done")),
        vec(any::<u8>(), 0..50),
        vec(crooked_frame(), 1..4).prop_map(|frames| frames.concat()),
    ];
    let (actions, pieces) = (vec(action(), 0..8), vec(any::<u8>(), 0..20));
    (limits, any::<[u8; 4]>(), actions, anything, pieces).prop_map(
        |(limit, key, actions, anything, pieces)| Script {
            limit,
            key,
            actions,
            anything,
            pieces,
        },
    )
}

proptest! {
    #[test]
    fn a_crooked_frame_is_judged_as_the_model_does(
        frames in vec(crooked_frame(), 1..4),
        limit in prop::sample::select(vec![0, 124, 125, 126, 1 << 16, 1 << 31, usize::MAX]),
    ) {
        let bytes = frames.concat();
        prop_assert_eq!(decode_cut_everywhere(limit, &bytes), codec::meaning(limit, &bytes));
    }

    #[test]
    fn a_client_is_understood_as_the_model_does_however_its_bytes_are_cut(
        script in script(300..10_000),
    ) {
        script.play();
    }

    #[test]
    fn a_damaged_session_means_what_the_model_says_however_its_bytes_are_cut(
        script in script(0..500),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        script.play_damaged(|bytes| {
            for (at, byte) in damage {
                if !bytes.is_empty() {
                    bytes[at.index(bytes.len())] = byte;
                }
            }
        });
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300), limit in any::<usize>()) {
        let outcomes = decode_cut_everywhere(limit, &bytes);
        prop_assert_eq!(outcomes, codec::meaning(limit, &bytes));
    }
}

#[test]
fn frames_of_the_fuzzer_mean_the_same_in_the_model() {
    replay("codec", |script: Script| script.play());
}

#[test]
fn handshakes_of_the_fuzzer_get_one_response() {
    replay("handshake", handshake::Request::play);
}
