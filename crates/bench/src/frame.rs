//! The WebSocket frames that client and server exchange (RFC 6455 section 5). A client masks its
//! frames, and a server does not.

use std::fmt::Write as _;

use super::options::Options;
use super::stamp::{STAMP_BYTES, Stamp};

/// Any key works, because the server unmasks at the same cost. It is not 0, which would leave the
/// payload readable.
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

pub(super) const CONTINUATION: u8 = 0x0;
pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;

/// A frame that the server sent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) struct Frame<'b> {
    pub(super) opcode: u8,
    pub(super) is_final: bool,
    /// RSV1: the message is compressed with permessage-deflate.
    pub(super) is_deflated: bool,
    pub(super) payload: &'b [u8],
}

/// The frame at the start of some bytes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Parsed<'b> {
    /// A frame, and the number of bytes that it took.
    Whole(Frame<'b>, usize),
    /// The beginning of an incomplete frame.
    Partial,
    /// Bytes that are not a frame that a server may send.
    Wrong(&'static str),
}

/// Parses the first frame in the received bytes.
pub(super) fn parse(bytes: &[u8], max_bytes: u64) -> Parsed<'_> {
    let &[first, second, ..] = bytes else {
        return Parsed::Partial;
    };
    if first & 0x30 != 0 {
        return Parsed::Wrong("a frame with reserved bits");
    }
    if second & 0x80 != 0 {
        return Parsed::Wrong("a masked frame, as only clients do");
    }
    let (len, payload_at) = match second {
        126 => match bytes.get(2..4) {
            Some(&[high, low]) => (u16::from_be_bytes([high, low]) as u64, 4),
            _ => return Parsed::Partial,
        },
        127 => match bytes.get(2..10).and_then(|len| len.try_into().ok()) {
            Some(len) => (u64::from_be_bytes(len), 10),
            None => return Parsed::Partial,
        },
        len => (len as u64, 2),
    };
    if len > max_bytes {
        return Parsed::Wrong("a frame that is longer than any message here");
    }
    let end = payload_at + len as usize;
    let Some(payload) = bytes.get(payload_at..end) else {
        return Parsed::Partial;
    };
    let frame = Frame {
        opcode: first & 0x0F,
        is_final: first & 0x80 != 0,
        is_deflated: first & 0x40 != 0,
        payload,
    };
    Parsed::Whole(frame, end)
}

/// Appends a frame of the client.
pub(super) fn write(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    let len = payload.len();
    match len {
        0..=125 => out.push(0x80 | len as u8),
        126..=0xFFFF => {
            out.push(0x80 + 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 + 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&KEY);
    out.extend(
        payload
            .iter()
            .zip(KEY.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}

/// A message, encoded and masked once; only the stamp changes.
pub(super) struct Template {
    frame: Vec<u8>,
    payload_at: usize,
    /// The position within the payload: behind the first part of an envelope.
    stamp_at: usize,
}

impl Template {
    pub(super) fn new(options: &Options) -> Self {
        let mut payload = Vec::new();
        if options.records {
            payload = records(options.bytes);
        }
        payload.resize(options.bytes, b'.');
        let envelope = &options.envelope;
        let stamp_at = envelope.before.len();
        payload.splice(..0, envelope.before.bytes());
        payload.extend_from_slice(envelope.after.as_bytes());
        let mut frame = Vec::new();
        write(
            if options.binary { BINARY } else { TEXT },
            &payload,
            &mut frame,
        );
        let payload_at = frame.len() - payload.len();
        Self {
            frame,
            payload_at,
            stamp_at,
        }
    }

    /// Appends the message with this stamp.
    pub(super) fn write(&self, stamp: Stamp, out: &mut Vec<u8>) {
        let at = out.len() + self.payload_at + self.stamp_at;
        out.extend_from_slice(&self.frame);
        let stamp = stamp.encode();
        let masked = stamp
            .iter()
            .zip(KEY.iter().cycle().skip(self.stamp_at % KEY.len()));
        for (byte, (stamp, key)) in out[at..at + STAMP_BYTES].iter_mut().zip(masked) {
            *byte = stamp ^ key;
        }
    }
}

/// JSON that resembles application data: the names repeat, the values do not.
fn records(bytes: usize) -> Vec<u8> {
    let mut text = " ".repeat(STAMP_BYTES);
    let mut random = 1_u64;
    while text.len() < bytes {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (id, user, price) = (random >> 40, random >> 60, (random >> 44) as f64 / 100.0);
        write!(
            text,
            "{{\"id\":{id},\"user\":\"user{user}\",\"price\":{price:.2}}},"
        )
        .expect("a String takes all");
    }
    text.truncate(bytes);
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_whole_only_with_its_last_byte() {
        for len in [0_usize, 1, 125, 126, 65_535, 65_536] {
            let mut masked = Vec::new();
            write(TEXT, &vec![b'a'; len], &mut masked);
            let mut bytes = masked.clone();
            let payload_at = bytes.len() - len;
            // A server's frame: not masked, and without the key.
            bytes[1] &= 0x7F;
            bytes.drain(payload_at - 4..payload_at);
            bytes.truncate(payload_at - 4);
            bytes.extend(vec![b'a'; len]);
            for cut in [0, 1, bytes.len() - 1] {
                assert_eq!(
                    parse(&bytes[..cut], 1 << 20),
                    Parsed::Partial,
                    "{len}, {cut}"
                );
            }
            let Parsed::Whole(frame, taken) = parse(&bytes, 1 << 20) else {
                panic!("{len} bytes are a whole frame");
            };
            assert_eq!((frame.payload.len(), taken), (len, bytes.len()));
        }
    }

    #[test]
    fn what_no_server_may_send_is_no_frame() {
        for bytes in [&[0x81, 0x80, 0, 0, 0, 0][..], &[0xA1, 0][..]] {
            assert!(matches!(parse(bytes, 100), Parsed::Wrong(_)), "{bytes:?}");
        }
        let huge = [0x82, 127, 0xFF, 0, 0, 0, 0, 0, 0, 0];
        assert!(matches!(parse(&huge, 1 << 20), Parsed::Wrong(_)));
    }
}
