//! The WebSocket frames that both sides of a session see: the encoding of the server's frames, the events of a
//! peer's bytes, and the seam ([`Decode`]) behind which the bytes are decoded.
//!
//! Everything here is plain bytes. It knows no socket and no session.

#![expect(
    clippy::mut_mut,
    reason = "advancing a caller's slice that is unmasked in place"
)]

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use super::close::Violation;

/// The longest payload of a control frame (RFC 6455, section 5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// The longest reason of a close frame: a control payload less the two bytes of the code.
pub const MAX_CLOSE_REASON: usize = MAX_CONTROL_PAYLOAD - 2;

const FIN: u8 = 0x80;
/// The bit that marks a deflated message (RFC 7692, section 6).
const RSV1: u8 = 0x40;
const OPCODE_TEXT: u8 = 0x1;
const OPCODE_BINARY: u8 = 0x2;
const OPCODE_CLOSE: u8 = 0x8;
const OPCODE_PING: u8 = 0x9;
const OPCODE_PONG: u8 = 0xA;

/// A payload of at least so many bytes goes from thread to thread as a block of its own. Smaller ones of a batch
/// share a block: to copy them costs less than a block for each.
pub const LARGE_BYTES: usize = 16 << 10;

/// The kind of a message's payload.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Bytes of any sort.
    Binary,
}

/// The header of a whole message sent by a server: FIN set, no mask, the shortest length form.
///
/// ```
/// use fanbus::actors::frame::{Kind, message_header};
///
/// assert_eq!(*message_header(Kind::Text, 5), [0x81, 5]);
/// assert_eq!(*message_header(Kind::Binary, 300), [0x82, 126, 0x01, 0x2C]);
/// ```
#[derive(Copy, Clone)]
pub struct FrameHeader {
    bytes: [u8; 10],
    /// 2, 4 or 10: how many of `bytes` are the header.
    len: u8,
}

/// Encodes the header of a message of `payload_len` bytes. The payload follows it as it is.
pub fn message_header(kind: Kind, payload_len: usize) -> FrameHeader {
    let mut bytes = [0; 10];
    bytes[0] = FIN
        | match kind {
            Kind::Text => OPCODE_TEXT,
            Kind::Binary => OPCODE_BINARY,
        };
    let len = match payload_len {
        0..=125 => {
            bytes[1] = payload_len as u8;
            2
        }
        126..=0xFFFF => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    };
    FrameHeader { bytes, len }
}

/// Splits a frame into the kind and the payload that [`message_header`] has framed. `None`: it is not such a frame.
///
/// ```
/// use fanbus::actors::frame::{Kind, message_of};
///
/// assert_eq!(message_of(b"\x81\x02hi"), Some((Kind::Text, &b"hi"[..])));
/// assert_eq!(message_of(b"\x81\x03hi"), None);
/// ```
pub fn message_of(frame: &[u8]) -> Option<(Kind, &[u8])> {
    let (kind, payload, rest) = first_message(frame)?;
    rest.is_empty().then_some((kind, payload))
}

/// Splits off the first of several such frames: its kind, its payload, and the frames behind it.
///
/// ```
/// use fanbus::actors::frame::{Kind, first_message};
///
/// let first = first_message(b"\x81\x02hi\x82\x00");
/// assert_eq!(first, Some((Kind::Text, &b"hi"[..], &b"\x82\x00"[..])));
/// ```
pub fn first_message(frames: &[u8]) -> Option<(Kind, &[u8], &[u8])> {
    let kind = match *frames.first()? {
        first if first == FIN | OPCODE_TEXT => Kind::Text,
        first if first == FIN | OPCODE_BINARY => Kind::Binary,
        _ => return None,
    };
    let after = frames.get(2..)?;
    let (payload_len, after) = match frames[1] {
        126 => {
            let (len, after) = after.split_first_chunk()?;
            (u16::from_be_bytes(*len) as u64, after)
        }
        127 => {
            let (len, after) = after.split_first_chunk()?;
            (u64::from_be_bytes(*len), after)
        }
        short => (short as u64, after),
    };
    let (payload, rest) = after.split_at_checked(usize::try_from(payload_len).ok()?)?;
    let is_shortest = frames.starts_with(&message_header(kind, payload.len()));
    is_shortest.then_some((kind, payload, rest))
}

/// The length of the first of several frames of a server, header included. `None`: the bytes do not begin with a
/// whole frame.
///
/// ```
/// use fanbus::actors::frame::len_of_first;
///
/// assert_eq!(len_of_first(b"\x89\x00\x81\x02hi"), Some(2));
/// assert_eq!(len_of_first(b"\x81\x02hi\x89\x00"), Some(4));
/// assert_eq!(len_of_first(b"HTTP/1.1 101"), None);
/// ```
pub fn len_of_first(frames: &[u8]) -> Option<usize> {
    const OPCODES: [u8; 5] = [
        OPCODE_TEXT,
        OPCODE_BINARY,
        OPCODE_CLOSE,
        OPCODE_PING,
        OPCODE_PONG,
    ];
    let first = *frames.first()? & !RSV1;
    let is_frame = OPCODES.iter().any(|opcode| first == FIN | opcode);
    is_frame.then_some(())?;
    let (header, payload) = match *frames.get(1)? {
        126 => {
            let len = frames.get(2..)?.first_chunk()?;
            (4, u64::from(u16::from_be_bytes(*len)))
        }
        127 => (10, u64::from_be_bytes(*frames.get(2..)?.first_chunk()?)),
        short => (2, u64::from(short)),
    };
    let len = header + usize::try_from(payload).ok()?;
    (len <= frames.len()).then_some(len)
}

/// The end of the frame that contains byte `at`, in several frames of a server. Bytes that are not a frame extend
/// to the end.
pub(super) fn end_of_frame_at(frames: &[u8], at: usize) -> usize {
    let mut end = 0;
    while end <= at && end < frames.len() {
        end += len_of_first(&frames[end..]).unwrap_or(frames.len());
    }
    end.min(frames.len())
}

impl FrameHeader {
    /// The header of the same message, when its payload is deflated.
    pub(super) fn deflated(mut self) -> Self {
        self.bytes[0] |= RSV1;
        self
    }
}

impl Deref for FrameHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

impl fmt::Debug for FrameHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameHeader({:02x?})", &**self)
    }
}

/// A whole control frame sent by a server, header and payload. It lives on the stack: answering
/// a ping allocates nothing.
#[derive(Copy, Clone)]
pub struct ControlFrame {
    bytes: [u8; 2 + MAX_CONTROL_PAYLOAD],
    /// The number of `bytes` that are the frame; at least 2.
    len: u8,
}

impl ControlFrame {
    /// Takes as much of the payload's two parts as fits.
    fn new(opcode: u8, first: &[u8], second: &[u8]) -> Self {
        let mut bytes = [0; 2 + MAX_CONTROL_PAYLOAD];
        let mut len = 2;
        for part in [first, second] {
            let part = &part[..part.len().min(bytes.len() - len)];
            bytes[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        bytes[0] = FIN | opcode;
        bytes[1] = (len - 2) as u8;
        Self {
            bytes,
            len: len as u8,
        }
    }
}

impl Deref for ControlFrame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

impl fmt::Debug for ControlFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlFrame({:02x?})", &**self)
    }
}

/// A ping. A payload of more than [`MAX_CONTROL_PAYLOAD`] bytes is cut there.
pub fn ping(payload: &[u8]) -> ControlFrame {
    ControlFrame::new(OPCODE_PING, payload, &[])
}

/// A pong: the answer to a ping, with the same payload (RFC 6455, section 5.5.3).
pub fn pong(payload: &[u8]) -> ControlFrame {
    ControlFrame::new(OPCODE_PONG, payload, &[])
}

/// A close frame. A reason of more than [`MAX_CLOSE_REASON`] bytes is cut before the character
/// that does not fit.
///
/// ```
/// use fanbus::actors::frame::close;
///
/// assert_eq!(*close(1000, "bye"), [0x88, 5, 0x03, 0xE8, b'b', b'y', b'e']);
/// ```
pub fn close(code: u16, reason: &str) -> ControlFrame {
    let mut fits = reason.len().min(MAX_CLOSE_REASON);
    while !reason.is_char_boundary(fits) {
        fits -= 1;
    }
    ControlFrame::new(
        OPCODE_CLOSE,
        &code.to_be_bytes(),
        &reason.as_bytes()[..fits],
    )
}

/// A close frame without a code: the answer to a close frame that had none (RFC 6455, section
/// 5.5.1).
pub fn close_without_code() -> ControlFrame {
    ControlFrame::new(OPCODE_CLOSE, &[], &[])
}

/// May a close frame carry this code (RFC 6455, section 7.4, and the IANA registry up to 1014)? 1005, 1006 and 1015
/// describe ends without a close frame, so no close frame may have them.
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The event that a decoder found.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Event<'a> {
    /// A whole message, put together if it came in fragments.
    Message {
        /// Text or binary.
        kind: Kind,
        /// The unmasked payload. If it was joined from pieces, the event owns it. That of a [`Kind::Text`] is
        /// validated UTF-8.
        payload: Cow<'a, [u8]>,
    },
    /// A ping, which wants a [`pong`] with this payload.
    Ping(&'a [u8]),
    /// A pong, whether or not a ping was sent.
    Pong(&'a [u8]),
    /// The peer's last frame; all bytes behind it are ignored.
    Close {
        /// Its close code, valid by [`is_close_code`], if it has one.
        code: Option<u16>,
        /// Its reason, possibly empty.
        reason: &'a str,
    },
}

/// The decoder that turns bytes into events. Knows no socket.
pub trait Decode: 'static {
    /// Takes the bytes that it needs from the front of `input`, advancing it. Returns the next event, or `None`
    /// when all of the input was taken.
    ///
    /// A frame that lies whole in `input` is unmasked in place, and its payload is borrowed from there: no copy. A
    /// message that was joined from pieces is owned by its event. The next call frees the bytes that the last event
    /// borrowed from the decoder. So call until `None`: then an idle decoder holds nothing.
    ///
    /// After a [`Violation`] or an [`Event::Close`], all further input is taken and ignored.
    fn decode<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Event<'e>>, Violation>;

    /// Bytes of memory for a message that is not whole yet.
    fn held(&self) -> usize;

    /// Drops the message that is not whole yet: all further input is taken and ignored.
    fn end(&mut self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_uses_the_shortest_length_form() {
        let cases: [(usize, &[u8]); 6] = [
            (0, &[0x82, 0]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (0xFFFF, &[0x82, 126, 0xFF, 0xFF]),
            (0x1_0000, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (
                0x1_2345_6789,
                &[0x82, 127, 0, 0, 0, 1, 0x23, 0x45, 0x67, 0x89],
            ),
        ];
        for (payload_len, expected) in cases {
            assert_eq!(&*message_header(Kind::Binary, payload_len), expected);
        }
        assert_eq!(message_header(Kind::Text, 1)[0], 0x81);
    }

    #[test]
    fn a_control_frame_carries_its_payload_and_never_more_than_125_bytes() {
        assert_eq!(&*ping(b"hi"), &[0x89, 2, b'h', b'i']);
        assert_eq!(&*pong(b""), &[0x8A, 0]);
        let longest = ping(&[7; 300]);
        assert_eq!((longest.len(), longest[1]), (127, 125));
        assert_eq!(&*close_without_code(), &[0x88, 0]);
    }

    #[test]
    fn a_close_reason_is_cut_between_characters() {
        let exact = close(1000, &"x".repeat(200));
        assert_eq!(exact.len(), 2 + 125);

        // 41 characters of 3 bytes are 123; with one byte before them, the last does not fit.
        let cut = close(1001, &format!("x{}", "€".repeat(41)));
        let reason = std::str::from_utf8(&cut[4..]).expect("cut at a character");
        assert_eq!(reason, format!("x{}", "€".repeat(40)));
        assert_eq!(cut[1] as usize, 2 + reason.len());
    }

    #[test]
    fn only_codes_that_may_travel_are_close_codes() {
        for code in [
            1000, 1001, 1002, 1003, 1007, 1011, 1012, 1013, 1014, 3000, 4999,
        ] {
            assert!(is_close_code(code), "{code}");
        }
        for code in [
            0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
        ] {
            assert!(!is_close_code(code), "{code}");
        }
    }
}
