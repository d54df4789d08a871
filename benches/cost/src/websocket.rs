//! The WebSocket protocol without a socket: the handshake, a client's frames, and ours.

use std::hint::black_box;

use actix_http::Method;
use actix_http::header::{
    CONNECTION, HOST, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use fanbus::actors::deflate::{Encoding, deflated};
use fanbus::actors::frame::{Decode, Event, Kind, message_header};
use fanbus::http::head::Version;
use fanbus::http::websocket::codec::Decoder;
use fanbus::http::websocket::handshake::Upgrade;
use fanbus::http::websocket::origin::Origins;

use crate::walk::Walk;

const COUNT: usize = 500;
const FEW: usize = 20;

/// Below 0x80: text that is masked twice is text still, so what one walk has unmasked in place the
/// next one takes for masked, and no walk has to copy its input first.
const KEY: [u8; 4] = [0x37, 0x7A, 0x21, 0x3D];

const FINAL: u8 = 0x80;
const TEXT: u8 = 0x1;
const CONTINUATION: u8 = 0x0;

pub(crate) fn paths(walk: &mut Walk<'_>) {
    handshake(walk);
    decoding(walk);
    encoding(walk);
}

fn handshake(walk: &mut Walk<'_>) {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (HOST, "example.com:5000"),
        (UPGRADE, "websocket"),
        (CONNECTION, "keep-alive, Upgrade"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        (ORIGIN, "http://example.com:5000"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut out = Vec::with_capacity(256);
    walk.path("handshake, checked and answered", COUNT, || {
        out.clear();
        let headers = black_box(&headers);
        let upgrade = Upgrade::check(&Method::GET, Version::Http11, headers, &Origins::Same);
        upgrade.expect("a good handshake").write(None, [], &mut out);
        black_box(&out).len()
    });
}

/// JSON as chats and dashboards send it, so long.
fn json(bytes: usize) -> Vec<u8> {
    let mut text = String::from("[");
    for number in 0.. {
        if text.len() >= bytes {
            break;
        }
        let price = number * 7919 % 10_000;
        let item = format!(r#"{{"id":{number},"name":"item {number}","price":{price}}},"#);
        text.push_str(&item);
    }
    text.truncate(bytes);
    text.into_bytes()
}

/// A client's frame; see [`KEY`].
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let header = message_header(Kind::Text, payload.len());
    let mut frame = header.to_vec();
    frame[0] = first;
    frame[1] |= 0x80;
    frame.extend(KEY);
    let masked = payload.iter().zip(KEY.iter().cycle());
    frame.extend(masked.map(|(byte, key)| byte ^ key));
    frame
}

fn decoding(walk: &mut Walk<'_>) {
    let mut whole = |name: &str, count, mut bytes: Vec<u8>, len| {
        let mut decoder = Decoder::new(1 << 20);
        walk.path(name, count, || {
            let mut input = &mut black_box(&mut bytes)[..];
            let mut events = 0;
            while let Some(event) = decoder.decode(&mut input).expect("an honest client") {
                let Event::Message { payload, .. } = event else {
                    panic!("a message was sent");
                };
                assert_eq!(black_box(payload).len(), len);
                events += 1;
            }
            assert_eq!(events, 1);
        });
    };
    for (name, count, len) in [
        ("decode, text of 16 B", COUNT, 16),
        ("decode, text of 128 B", COUNT, 128),
        ("decode, text of 64 KiB", FEW, 64 << 10),
    ] {
        whole(name, count, frame(FINAL | TEXT, &json(len)), len);
    }
    let pieces = json(16 << 10);
    let pieces: Vec<&[u8]> = pieces.chunks(2 << 10).collect();
    let mut bytes = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        let opcode = if number == 0 { TEXT } else { CONTINUATION };
        let end = if number + 1 == pieces.len() { FINAL } else { 0 };
        bytes.extend(frame(end | opcode, piece));
    }
    whole(
        "decode, text of 16 KiB in 8 fragments",
        FEW,
        bytes,
        16 << 10,
    );
}

fn encoding(walk: &mut Walk<'_>) {
    for (name, len) in [("encode, 128 B", 128), ("encode, 1 KiB", 1 << 10)] {
        let (payload, mut out) = (json(len), Vec::with_capacity(len + 16));
        walk.path(name, COUNT, || {
            out.clear();
            Encoding::Plain.append(Kind::Text, [black_box(&payload), &[]], &mut out);
            black_box(&out).len()
        });
    }
    for (name, len) in [("deflate, 128 B", 128), ("deflate, 1 KiB", 1 << 10)] {
        let payload = json(len);
        let frame = [&message_header(Kind::Text, len), &payload[..]].concat();
        walk.path(name, FEW, || {
            deflated(black_box(&frame)).expect("JSON shrinks")
        });
    }
}
