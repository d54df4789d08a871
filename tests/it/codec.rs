//! The WebSocket decoder against the sentences of RFC 6455, one by one.

use fanbus::actors::frame::{Decode, Kind};
use fanbus::http::websocket::MAX_FRAGMENTS;
use fanbus::http::websocket::codec::Decoder;

use crate::codec_model::{Outcome, decode_all, decode_cut_everywhere, frame};

const LIMIT: usize = 1000;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;

/// Decodes in one piece and at every cut, and insists that nothing differs.
fn outcomes(bytes: &[u8]) -> Vec<Outcome> {
    decode_cut_everywhere(LIMIT, bytes)
}

fn only(bytes: &[u8]) -> Outcome {
    let mut outcomes = outcomes(bytes);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    outcomes.remove(0)
}

fn text(payload: &str) -> Outcome {
    Outcome::Message(Kind::Text, payload.into())
}

fn binary(payload: &[u8]) -> Outcome {
    Outcome::Message(Kind::Binary, payload.into())
}

fn close(payload: &[u8]) -> Outcome {
    only(&frame(FIN | CLOSE, payload))
}

#[test]
fn text_binary_ping_and_pong_are_unmasked() {
    assert_eq!(only(&frame(FIN | TEXT, "grüß".as_bytes())), text("grüß"));
    assert_eq!(only(&frame(FIN | TEXT, b"")), text(""));
    assert_eq!(only(&frame(FIN | BINARY, &[0, 255])), binary(&[0, 255]));
    assert_eq!(
        only(&frame(FIN | PING, b"are you there")),
        Outcome::Ping(b"are you there".into())
    );
    assert_eq!(
        only(&frame(FIN | PONG, &[9; 125])),
        Outcome::Pong(vec![9; 125])
    );
}

#[test]
fn all_three_length_forms_are_read() {
    for len in [0, 1, 125, 126, 127, 128, 999, 65_535, 65_536, 65_537] {
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        assert_eq!(
            decode_all(1 << 20, &frame(FIN | BINARY, &payload)),
            [binary(&payload)]
        );
    }
}

#[test]
fn a_message_may_come_in_fragments_with_control_frames_between() {
    let bytes = [
        frame(TEXT, b"one "),
        frame(FIN | PING, b"?"),
        frame(CONTINUATION, b""),
        frame(CONTINUATION, b"two "),
        frame(FIN | PONG, b"!"),
        frame(FIN | CONTINUATION, b"three"),
        frame(FIN | BINARY, b"next"),
    ]
    .concat();
    let expected = [
        Outcome::Ping(b"?".into()),
        Outcome::Pong(b"!".into()),
        text("one two three"),
        binary(b"next"),
    ];
    assert_eq!(outcomes(&bytes), expected);
}

#[test]
fn a_character_may_be_cut_by_fragments() {
    let bytes = [
        frame(TEXT, b"\xF0\x9F"),
        frame(CONTINUATION, b"\x8E"),
        frame(FIN | CONTINUATION, b"\x89"),
    ]
    .concat();
    assert_eq!(outcomes(&bytes), [text("🎉")]);
}

#[test]
fn bad_utf8_is_refused_with_1007() {
    let bad: [&[u8]; 6] = [
        b"\xFF",
        b"a\xC0\xAF",        // overlong
        b"\xED\xA0\x80",     // surrogate
        b"\xF4\x90\x80\x80", // beyond U+10FFFF
        b"half a \xE2\x82",  // ends in the middle
        b"long enough for a vector of sixty-four bytes and more, so that both paths run \x80",
    ];
    for payload in bad {
        assert_eq!(
            only(&frame(FIN | TEXT, payload)),
            Outcome::Violation(1007),
            "{payload:x?}"
        );
        assert_eq!(only(&frame(FIN | BINARY, payload)), binary(payload));
        let in_fragments = [frame(TEXT, payload), frame(FIN | CONTINUATION, b"")].concat();
        assert_eq!(
            only(&in_fragments),
            Outcome::Violation(1007),
            "{payload:x?}"
        );
    }
}

#[test]
fn bad_utf8_is_refused_before_the_message_is_complete() {
    let whole = frame(FIN | TEXT, b"\xCE\xBA\xF4\x90 and much more");
    // Two bytes of header, four of mask, four of payload: F4 90 begins no character.
    let so_far = 2 + 4 + 4;
    assert_eq!(decode_all(LIMIT, &whole[..so_far - 1]), []);
    assert_eq!(
        decode_all(LIMIT, &whole[..so_far]),
        [Outcome::Violation(1007)]
    );

    assert_eq!(
        only(&frame(TEXT, b"fragment \xFF")),
        Outcome::Violation(1007)
    );
}

#[test]
fn an_announced_length_is_refused_at_once() {
    // 2^63 - 1 bytes: the verdict needs the header's ten first bytes, not the mask.
    let bytes = [0x82, 0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255];
    assert_eq!(only(&bytes), Outcome::Violation(1009));
    // 2^63 is no length at all (section 5.2).
    let bytes = [0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(only(&bytes), Outcome::Violation(1002));

    assert_eq!(only(&frame(FIN | BINARY, &[1; LIMIT])), binary(&[1; LIMIT]));
    let one_more = frame(FIN | BINARY, &[1; LIMIT + 1]);
    assert_eq!(only(&one_more), Outcome::Violation(1009));
    assert_eq!(only(&one_more[..4]), Outcome::Violation(1009));
}

#[test]
fn the_size_limit_holds_over_fragments() {
    let first = frame(BINARY, &[1; LIMIT - 1]);
    let fits = [&first[..], &frame(FIN | CONTINUATION, &[1])].concat();
    assert_eq!(only(&fits), binary(&[1; LIMIT]));
    let exceeds = [&first[..], &frame(CONTINUATION, &[1, 1])].concat();
    assert_eq!(only(&exceeds), Outcome::Violation(1009));
}

#[test]
fn a_message_has_a_bounded_number_of_fragments_even_if_they_are_empty() {
    let fragments = |count: u32| {
        let mut bytes = frame(TEXT, b"");
        for _ in 2..count {
            bytes.extend(frame(CONTINUATION, b""));
        }
        bytes.extend(frame(FIN | CONTINUATION, b"end"));
        bytes
    };
    assert_eq!(decode_all(LIMIT, &fragments(MAX_FRAGMENTS)), [text("end")]);
    assert_eq!(
        decode_all(LIMIT, &fragments(MAX_FRAGMENTS + 1)),
        [Outcome::Violation(1009)]
    );
}

/// Case 9.4.1 of the Autobahn suite.
#[test]
fn four_mebibytes_in_pieces_of_64_bytes_and_an_empty_end_are_one_message() {
    const PIECES: usize = 65_536;
    let mut bytes = frame(BINARY, &[7; 64]);
    for _ in 1..PIECES {
        bytes.extend(frame(CONTINUATION, &[7; 64]));
    }
    bytes.extend(frame(FIN | CONTINUATION, b""));
    let whole = vec![7; PIECES * 64];
    assert_eq!(decode_all(whole.len(), &bytes), [binary(&whole)]);
}

#[test]
fn what_the_rfc_forbids_in_a_header_is_refused_with_1002() {
    let forbidden: [(&str, Vec<u8>); 13] = [
        ("RSV1", frame(FIN | 0x40 | TEXT, b"")),
        ("RSV2", frame(FIN | 0x20 | TEXT, b"")),
        ("RSV3", frame(FIN | 0x10 | PING, b"")),
        ("reserved data opcode", frame(FIN | 0x3, b"")),
        ("reserved control opcode", frame(FIN | 0xB, b"")),
        ("unmasked", vec![FIN | TEXT, 1, b'x']),
        ("fragmented ping", frame(PING, b"")),
        ("fragmented close", frame(CLOSE, b"")),
        ("ping of 126 bytes", frame(FIN | PING, &[0; 126])),
        ("nothing to continue", frame(FIN | CONTINUATION, b"x")),
        (
            "interleaved messages",
            [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat(),
        ),
        ("16-bit length of 125", vec![FIN | BINARY, 0xFE, 0, 125]),
        (
            "64-bit length of 65535",
            vec![FIN | BINARY, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
        ),
    ];
    for (what, bytes) in forbidden {
        assert_eq!(only(&bytes), Outcome::Violation(1002), "{what}");
    }
}

#[test]
fn a_close_frame_is_read_with_its_code_and_reason() {
    assert_eq!(close(b""), Outcome::Close(None, String::new()));
    assert_eq!(
        close(b"\x03\xE8"),
        Outcome::Close(Some(1000), String::new())
    );
    let reason = "é".repeat(61);
    let payload = [b"\x0F\xA0", reason.as_bytes()].concat();
    assert_eq!(close(&payload), Outcome::Close(Some(4000), reason));
}

#[test]
fn a_bad_close_frame_is_refused() {
    assert_eq!(close(b"\x03"), Outcome::Violation(1002));
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        assert_eq!(
            close(&code.to_be_bytes()),
            Outcome::Violation(1002),
            "{code}"
        );
    }
    assert_eq!(close(b"\x03\xE8\xFF"), Outcome::Violation(1007));
    assert_eq!(close(&[3; 126]), Outcome::Violation(1002));
}

#[test]
fn nothing_is_looked_at_after_a_close_or_a_violation() {
    let after = frame(FIN | TEXT, b"too late");
    let closed = [frame(FIN | CLOSE, b""), after.clone()].concat();
    assert_eq!(outcomes(&closed), [Outcome::Close(None, String::new())]);

    let mut decoder = Decoder::new(LIMIT);
    let mut refused = frame(FIN | TEXT, b"\xFF");
    decoder
        .decode(&mut &mut refused[..])
        .expect_err("bad UTF-8");
    let mut after = after;
    let mut input = &mut after[..];
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(input.is_empty());
}

#[test]
fn a_decoder_is_a_cache_line() {
    // Ten thousand idle connections each hold one.
    assert!(size_of::<Decoder>() <= 64, "{}", size_of::<Decoder>());
}
