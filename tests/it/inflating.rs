//! The decoder for clients that permessage-deflate was agreed on with (RFC 7692): what the RFC shows,
//! what it forbids, and what somebody with bad intentions may send.

use fanbus::actors::deflate::{Encoding, Window};
use fanbus::actors::frame::Kind;
use fanbus::http::websocket::codec::Decoder;
use flate2::{Compress, Compression, FlushCompress};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::codec_model::{Outcome, cut_everywhere, decode_with, frame};

const LIMIT: usize = 1000;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const PING: u8 = 0x9;
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// `Hello` in a block of its own, as section 7.2.3.1 has it.
const HELLO: &[u8] = b"\xF2\x48\xCD\xC9\xC9\x07\x00";

fn outcomes(bytes: &[u8]) -> Vec<Outcome> {
    cut_everywhere(|| Decoder::new(LIMIT).inflating(), bytes)
}

fn only(bytes: &[u8]) -> Outcome {
    let mut outcomes = outcomes(bytes);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes.remove(0)
}

/// The only outcome of one deflated message.
fn inflated(opcode: u8, deflated: &[u8]) -> Outcome {
    only(&frame(FIN | RSV1 | opcode, deflated))
}

fn text(payload: &str) -> Outcome {
    Outcome::Message(Kind::Text, payload.into())
}

/// Deflates in blocks that end at these places, each flushed in that way.
fn deflate(payload: &[u8], level: u32, blocks: &[usize], flush: FlushCompress) -> Vec<u8> {
    let mut compressor = Compress::new(Compression::new(level), false);
    let mut out = Vec::with_capacity(2 * payload.len() + 64 * (blocks.len() + 2));
    let mut start = 0;
    for &end in blocks.iter().chain([&payload.len()]) {
        let block = &payload[start..end];
        compressor
            .compress_vec(block, &mut out, flush)
            .expect("any data can be deflated");
        start = end;
    }
    assert_eq!(compressor.total_in(), payload.len() as u64);
    match out.strip_suffix(&[0x00, 0x00, 0xFF, 0xFF]) {
        Some(deflated) => deflated.to_vec(),
        None => panic!("not flushed: {out:x?}"),
    }
}

fn deflate_at_once(payload: &[u8]) -> Vec<u8> {
    deflate(payload, 6, &[], FlushCompress::Sync)
}

/// Deflated data that ends itself, by a last block with BFINAL.
fn finished(payload: &[u8]) -> Vec<u8> {
    let mut compressor = Compress::new(Compression::new(6), false);
    let mut out = Vec::with_capacity(2 * payload.len() + 64);
    compressor
        .compress_vec(payload, &mut out, FlushCompress::Finish)
        .expect("any data can be deflated");
    out
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    assert_eq!(inflated(TEXT, HELLO), text("Hello"));
    // 7.2.3.3: a block that is not compressed.
    assert_eq!(
        inflated(TEXT, b"\x00\x05\x00\xFA\xFF\x48\x65\x6C\x6C\x6F\x00"),
        text("Hello")
    );
    // 7.2.3.4: BFINAL, and an empty block to take the tail from.
    assert_eq!(
        inflated(TEXT, b"\xF3\x48\xCD\xC9\xC9\x07\x00\x00"),
        text("Hello")
    );
    // 7.2.3.5: two blocks.
    assert_eq!(
        inflated(
            TEXT,
            b"\xF2\x48\x05\x00\x00\x00\xFF\xFF\xCA\xC9\xC9\x07\x00"
        ),
        text("Hello")
    );
    // 7.2.3.6: an empty message.
    assert_eq!(inflated(TEXT, b"\x00"), text(""));
}

#[test]
fn a_message_may_end_with_its_last_block_or_go_on_behind_it() {
    let hello = finished(b"Hello");
    assert_eq!(inflated(TEXT, &hello), text("Hello"));
    let twice = [&hello[..], HELLO].concat();
    assert_eq!(inflated(TEXT, &twice), text("HelloHello"));
    assert_eq!(
        inflated(TEXT, &[&hello[..], &hello].concat()),
        text("HelloHello")
    );
    assert_eq!(inflated(TEXT, b""), text(""));
}

#[test]
fn plain_and_deflated_messages_may_alternate() {
    let bytes = [
        frame(FIN | RSV1 | TEXT, HELLO),
        frame(FIN | TEXT, b"plain"),
        frame(FIN | RSV1 | BINARY, HELLO),
        frame(FIN | BINARY, HELLO),
    ]
    .concat();
    let expected = [
        text("Hello"),
        text("plain"),
        Outcome::Message(Kind::Binary, b"Hello".into()),
        Outcome::Message(Kind::Binary, HELLO.into()),
    ];
    assert_eq!(outcomes(&bytes), expected);
}

#[test]
fn a_deflated_message_may_come_in_fragments_with_control_frames_between() {
    // 7.2.3.1, and an empty fragment, which is not an empty message.
    let bytes = [
        frame(RSV1 | TEXT, &HELLO[..3]),
        frame(FIN | PING, b"?"),
        frame(CONTINUATION, b""),
        frame(FIN | CONTINUATION, &HELLO[3..]),
        frame(TEXT, b"pla"),
        frame(FIN | CONTINUATION, b"in"),
    ]
    .concat();
    let expected = [Outcome::Ping(b"?".into()), text("Hello"), text("plain")];
    assert_eq!(outcomes(&bytes), expected);
}

#[test]
fn rsv1_is_for_the_first_frame_of_a_message_and_only_if_it_was_agreed_on() {
    let forbidden: [(&str, Vec<u8>); 6] = [
        ("RSV2", frame(FIN | 0x20 | TEXT, b"")),
        ("RSV1 and RSV3", frame(FIN | RSV1 | 0x10 | TEXT, HELLO)),
        ("a ping", frame(FIN | RSV1 | PING, b"")),
        ("a close", frame(FIN | RSV1 | 0x8, b"")),
        ("a reserved opcode", frame(FIN | RSV1 | 0x3, b"")),
        (
            "a second fragment",
            [
                frame(RSV1 | TEXT, &HELLO[..3]),
                frame(FIN | RSV1 | CONTINUATION, &HELLO[3..]),
            ]
            .concat(),
        ),
    ];
    for (what, bytes) in forbidden {
        assert_eq!(only(&bytes), Outcome::Violation(1002), "{what}");
    }
    let hello = frame(FIN | RSV1 | TEXT, HELLO);
    let without = cut_everywhere(|| Decoder::new(LIMIT), &hello);
    assert_eq!(without, [Outcome::Violation(1002)]);
    // The first byte says it.
    let early = decode_with(Decoder::new(LIMIT), [&hello[..1]]);
    assert_eq!(early, [Outcome::Violation(1002)]);
}

#[test]
fn what_is_no_deflated_data_is_refused_with_1007() {
    let cases: [&[u8]; 6] = [
        b"\xFF",                      // a block of the reserved type
        b"\x00\x05\x00\x00\x00abcde", // a length that does not match its complement
        b"\x4A\x84\x01\x00",          // a reference to what never was
        b"\xFE\xFF\xFF\xFF",
        b"plain text, sent with the bit set",
        b"\x00\x00\x00\xFF\xFF\x01\x00\x00\xFF", // a last block that is cut
    ];
    for deflated in cases {
        let outcome = inflated(BINARY, deflated);
        assert_eq!(outcome, Outcome::Violation(1007), "{deflated:x?}");
    }
}

#[test]
fn a_message_that_is_cut_anywhere_is_refused_with_1007() {
    let payload: Vec<u8> = (0..200_u32).flat_map(|i| (i * i).to_le_bytes()).collect();
    for level in [0, 1, 6] {
        let deflated = deflate(&payload, level, &[], FlushCompress::Sync);
        // The first byte of data that is only stored is the same as an empty message.
        for len in 2..deflated.len() {
            let bytes = frame(FIN | RSV1 | BINARY, &deflated[..len]);
            let decoder = Decoder::new(LIMIT).inflating();
            let outcomes = decode_with(decoder, [&bytes[..]]);
            assert_eq!(
                outcomes,
                [Outcome::Violation(1007)],
                "level {level}, {len} of {} bytes",
                deflated.len()
            );
        }
    }
}

#[test]
fn text_is_checked_when_it_is_inflated() {
    for bad in [&b"\xFF"[..], b"half a \xE2\x82", b"\xED\xA0\x80"] {
        let deflated = deflate_at_once(bad);
        assert_eq!(inflated(TEXT, &deflated), Outcome::Violation(1007));
        let binary = Outcome::Message(Kind::Binary, bad.into());
        assert_eq!(inflated(BINARY, &deflated), binary);
    }
    // Deflated text is no text: its fragments may be anything.
    assert_eq!(
        inflated(TEXT, &deflate_at_once("grüß 🎉".as_bytes())),
        text("grüß 🎉")
    );
    // Characters that the pieces of inflating cut.
    let long = "🎉".repeat(100_000);
    let bytes = frame(
        FIN | RSV1 | TEXT,
        &deflate_at_once(format!("x{long}").as_bytes()),
    );
    let outcome = decode_with(Decoder::new(1 << 20).inflating(), [&bytes[..]]);
    assert_eq!(outcome, [text(&format!("x{long}"))]);
}

#[test]
fn the_size_limit_is_for_the_inflated_message() {
    for level in [0, 1, 6] {
        for (len, fits) in [(LIMIT - 1, true), (LIMIT, true), (LIMIT + 1, false)] {
            // Hardly anything that level 1 can shorten: nine bits for most bytes.
            let payload: Vec<u8> = (0..len as u32)
                .map(|i| 128 | (i.wrapping_mul(2_654_435_761) >> 20) as u8)
                .collect();
            let deflated = deflate(&payload, level, &[], FlushCompress::Sync);
            let expected = if fits {
                Outcome::Message(Kind::Binary, payload)
            } else {
                Outcome::Violation(1009)
            };
            assert_eq!(
                inflated(BINARY, &deflated),
                expected,
                "level {level}, {len}"
            );
        }
    }
    // What could never become a message that fits is refused when it is announced.
    let announced = [FIN | RSV1 | BINARY, 0xFE, 0x27, 0x10];
    assert_eq!(only(&announced), Outcome::Violation(1009));
}

/// Each of the blocks stands for itself, so that the same mebibyte can be said again and again.
fn bomb(mebibytes: usize) -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    let mut block = deflate(&zeros, 9, &[], FlushCompress::Full);
    block.extend([0x00, 0x00, 0xFF, 0xFF]);
    let mut bomb = block.repeat(mebibytes);
    bomb.truncate(bomb.len() - 4);
    bomb
}

#[test]
fn a_bomb_of_a_gibibyte_is_refused_at_the_limit() {
    let deflated = bomb(1024);
    assert!(deflated.len() < 1_200_000, "{}", deflated.len());
    for opcode in [TEXT, BINARY] {
        let bytes = frame(FIN | RSV1 | opcode, &deflated);
        let decoder = Decoder::new(1 << 20).inflating();
        let outcome = decode_with(decoder, [&bytes[..]]);
        assert_eq!(outcome, [Outcome::Violation(1009)]);
    }
    let fits = frame(FIN | RSV1 | BINARY, &bomb(3));
    let outcome = decode_with(Decoder::new(3 << 20).inflating(), [&fits[..]]);
    assert_eq!(outcome, [Outcome::Message(Kind::Binary, vec![0; 3 << 20])]);
    let outcome = decode_with(Decoder::new((3 << 20) - 1).inflating(), [&fits[..]]);
    assert_eq!(outcome, [Outcome::Violation(1009)]);
}

fn message() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    let text = "(\\PC{0,20}){0,40}".prop_map(|text| (Kind::Text, text.into_bytes()));
    let few = vec(0_u8..4, 0..3000).prop_map(|bytes| (Kind::Binary, bytes));
    let many = vec(any::<u8>(), 0..3000).prop_map(|bytes| (Kind::Binary, bytes));
    prop_oneof![text, few, many]
}

fn places(cuts: &[Index], len: usize) -> Vec<usize> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(len + 1)).collect();
    places.sort_unstable();
    places
}

proptest! {
    #[test]
    fn any_message_is_read_however_it_is_deflated_fragmented_and_cut(
        (kind, payload) in message(),
        level in 0_u32..=9,
        full in any::<bool>(),
        blocks in vec(any::<Index>(), 0..4),
        fragments in vec(any::<Index>(), 0..4),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let flush = if full { FlushCompress::Full } else { FlushCompress::Sync };
        let mut blocks = places(&blocks, payload.len());
        blocks.dedup(); // A compressor that is flushed twice says nothing the second time.
        blocks.retain(|end| *end != 0 && *end != payload.len());
        let deflated = deflate(&payload, level, &blocks, flush);

        let mut ends = places(&fragments, deflated.len());
        ends.push(deflated.len());
        let (mut bytes, mut start) = (Vec::new(), 0);
        for (at, &end) in ends.iter().enumerate() {
            let first = match kind {
                _ if at > 0 => CONTINUATION,
                Kind::Text => RSV1 | TEXT,
                Kind::Binary => RSV1 | BINARY,
            };
            let fin = if at + 1 == ends.len() { FIN } else { 0 };
            bytes.extend(frame(fin | first, &deflated[start..end]));
            start = end;
        }
        bytes.extend(frame(FIN | PING, b"behind"));

        let mut cuts = places(&cuts, bytes.len());
        cuts.push(bytes.len());
        cuts.insert(0, 0);
        let pieces = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
        let decoder = Decoder::new(payload.len()).inflating();
        let expected = [Outcome::Message(kind, payload), Outcome::Ping(b"behind".into())];
        prop_assert_eq!(decode_with(decoder, pieces), expected);
    }

    #[test]
    fn what_is_sent_deflated_is_read_again(
        (kind, payload) in message(),
        prefix in vec(any::<u8>(), 0..300),
        bits in Window::BITS,
    ) {
        let window = Window::new(bits).expect("it can be kept");
        let mut sent = Vec::new();
        Encoding::Deflated(window).append(kind, [&prefix, &payload], &mut sent);
        prop_assert!(sent.len() <= 10 + prefix.len() + payload.len());
        // As a client would have sent it.
        let header_len = match sent[1] { 126 => 4, 127 => 10, _ => 2 };
        let bytes = frame(sent[0], &sent[header_len..]);
        let message = [prefix, payload].concat();
        let decoder = Decoder::new(1 << 16).inflating();
        let read = decode_with(decoder, [&bytes[..]]);
        if kind == Kind::Binary || std::str::from_utf8(&message).is_ok() {
            prop_assert_eq!(read, [Outcome::Message(kind, message)]);
        } else {
            prop_assert_eq!(read, [Outcome::Violation(1007)]);
        }
    }

    #[test]
    fn random_deflated_bytes_never_panic_and_keep_the_limit(
        bytes in vec(any::<u8>(), 0..200),
        limit in 0_usize..500,
    ) {
        let bytes = frame(FIN | RSV1 | BINARY, &bytes);
        for outcome in decode_with(Decoder::new(limit).inflating(), [&bytes[..]]) {
            if let Outcome::Message(_, payload) = outcome {
                prop_assert!(payload.len() <= limit);
            }
        }
    }
}
