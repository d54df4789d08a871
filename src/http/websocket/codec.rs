//! The decoder that turns the bytes of a client into events: the server's side of RFC 6455 framing.
//!
//! It promises:
//! - any way of cutting the same bytes into inputs gives the same events;
//! - a header is checked before any of its payload is buffered, so an announced length costs nothing;
//! - bytes that the RFC does not allow are refused at the first byte that shows it, inside a message too;
//! - a frame that lies whole in the input is unmasked in place and borrowed, never copied (unless it is deflated);
//! - a decoder between messages holds no memory besides itself.
//!
//! It knows no socket, no clock and no rate: those belong to the session.

#![expect(
    clippy::mut_mut,
    reason = "advancing a caller's slice that is unmasked in place"
)]

use std::borrow::Cow;
use std::mem;

use super::header::{self, Frame, MAX_HEADER, Opcode, Rules};
use super::inflate::inflate;
use super::mask::unmask;
use super::message::PartialMessage;
use crate::actors::close::Violation;
use crate::actors::frame::{Decode, Event, Kind, is_close_code};

/// Decodes what one client sends. See the module's documentation for what it promises.
///
/// ```
/// use fanbus::actors::frame::{Decode, Event, Kind};
/// use fanbus::http::websocket::codec::Decoder;
///
/// let mut decoder = Decoder::new(1024);
/// let mut bytes = *b"\x81\x85\x01\x02\x03\x04igohn"; // "hello", masked with 1 2 3 4
/// let mut input = &mut bytes[..];
/// assert_eq!(
///     decoder.decode(&mut input),
///     Ok(Some(Event::Message { kind: Kind::Text, payload: b"hello"[..].into() })),
/// );
/// assert_eq!(decoder.decode(&mut input), Ok(None));
/// ```
#[derive(Debug)]
pub struct Decoder {
    /// The most payload bytes of one message, over all its fragments, inflated.
    max_message_bytes: usize,
    /// The beginning of a header in which the input ended.
    header: [u8; MAX_HEADER],
    /// The number of bytes of `header` that have come. 0 while `frame` is set.
    header_len: u8,
    reads: Reads,
    /// The frame whose header is known and whose payload has not all come.
    frame: Option<Frame>,
    /// The buffered part of the input. Between messages there is none.
    kept: Option<Box<Kept>>,
}

/// The part of the input that a decoder buffers, because a frame or message did not lie whole in it.
#[derive(Debug, Default)]
struct Kept {
    /// The message of which a part has come: a fragment, or a piece of a frame.
    message: Option<PartialMessage>,
    /// The piece of a control frame's payload that has come. It is separate from the message: a control frame may
    /// come between two fragments.
    control: Vec<u8>,
    /// The payload that the last event borrowed, if it is of a control frame that was not whole in the input. The
    /// next call frees it. The payload of a message is moved out instead.
    lent: Vec<u8>,
}

/// The kinds of frames that a decoder accepts.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Reads {
    /// Messages as they are.
    Plain,
    /// Deflated messages too.
    Deflated,
    /// Nothing more: a close frame or a violation was seen.
    Nothing,
}

/// A whole frame or message, and where its payload is.
struct Found<'i> {
    opcode: Opcode,
    /// The payload in the input, or `None` for `Kept::lent`.
    in_place: Option<&'i [u8]>,
}

impl Decoder {
    /// A decoder for one connection. Messages of more than `max_message_bytes` are refused with
    /// 1009 when their length is announced.
    pub fn new(max_message_bytes: usize) -> Self {
        Self {
            max_message_bytes,
            header: [0; MAX_HEADER],
            header_len: 0,
            reads: Reads::Plain,
            frame: None,
            kept: None,
        }
    }

    /// A decoder for a client that has agreed on permessage-deflate (RFC 7692). The limit applies to the inflated
    /// message, and is checked while it is inflated.
    #[must_use]
    pub fn inflating(mut self) -> Self {
        self.reads = Reads::Deflated;
        self
    }

    /// Decodes until something whole is found or the input is used up.
    fn find<'i>(&mut self, input: &mut &'i mut [u8]) -> Result<Option<Found<'i>>, Violation> {
        loop {
            let frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.next_header(input)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let piece = take_front(input, frame.remaining);
            unmask(piece, frame.key);
            let found = match frame.opcode {
                Opcode::Continuation | Opcode::Message(_) => self.data(frame, piece)?,
                Opcode::Close | Opcode::Ping | Opcode::Pong => self.control(frame, piece),
            };
            // A fragment that came whole brings no event; the bytes behind it may bring one.
            if found.is_some() || self.frame.is_some() {
                return Ok(found);
            }
        }
    }

    /// Takes the next header from the input; `None` if it does not end there.
    fn next_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, Violation> {
        if self.header_len == 0
            && let Some((frame, header_len)) = self.parse_header(input)?
        {
            take_front(input, header_len);
            return Ok(Some(frame));
        }
        // The header comes in pieces. It is collected byte by byte, because only its first bytes show its length.
        while let [byte] = *take_front(input, 1) {
            self.header[self.header_len as usize] = byte;
            self.header_len += 1;
            let collected = &self.header[..self.header_len as usize];
            if let Some((frame, header_len)) = self.parse_header(collected)? {
                debug_assert_eq!(header_len, self.header_len as usize);
                self.header_len = 0;
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// The message of which a part has come.
    fn message(&self) -> Option<&PartialMessage> {
        self.kept.as_ref()?.message.as_ref()
    }

    fn kept(&mut self) -> &mut Kept {
        self.kept.get_or_insert_default()
    }

    fn rules(&self) -> Rules {
        Rules {
            max_message_bytes: self.max_message_bytes,
            inflates: self.reads == Reads::Deflated,
        }
    }

    fn parse_header(&self, bytes: &[u8]) -> Result<Option<(Frame, usize)>, Violation> {
        header::parse(bytes, self.message(), self.rules())
    }

    /// Takes a piece of a data frame's payload, already unmasked.
    fn data<'i>(&mut self, frame: Frame, piece: &'i [u8]) -> Result<Option<Found<'i>>, Violation> {
        let is_whole = piece.len() == frame.remaining;
        if let Opcode::Message(kind) = frame.opcode
            && self.message().is_none()
        {
            if is_whole && frame.is_final && frame.is_deflated {
                self.kept().lent = inflate(kind, piece, self.max_message_bytes)?;
                return Ok(Some(Found {
                    opcode: frame.opcode,
                    in_place: None,
                }));
            }
            if is_whole && frame.is_final {
                if kind == Kind::Text && simdutf8::basic::from_utf8(piece).is_err() {
                    return Err(Violation::BadUtf8);
                }
                return Ok(Some(Found {
                    opcode: frame.opcode,
                    in_place: Some(piece),
                }));
            }
            if !is_whole && piece.is_empty() {
                // The input ended behind the header: the payload may still come in one piece.
                self.frame = Some(frame);
                return Ok(None);
            }
        }

        let most_bytes = self.rules().most_bytes(frame.is_deflated);
        let message = &mut self.kept().message;
        let message = message.get_or_insert_with(|| match frame.opcode {
            Opcode::Message(kind) => PartialMessage::new(kind, frame.is_deflated),
            _ => unreachable!("a continuation is only accepted while there is a message"),
        });
        message.push(piece, frame.remaining - piece.len(), most_bytes)?;
        if !is_whole {
            self.frame = Some(frame.after(piece.len()));
            return Ok(None);
        }
        message.count_fragment();
        if !frame.is_final {
            return Ok(None);
        }
        let message = self.kept().message.take().expect("it was made above");
        let kind = message.kind();
        let mut payload = message.finish()?;
        if frame.is_deflated {
            payload = inflate(kind, &payload, self.max_message_bytes)?;
        }
        self.kept().lent = payload;
        Ok(Some(Found {
            opcode: Opcode::Message(kind),
            in_place: None,
        }))
    }

    /// Takes a piece of a control frame's payload, already unmasked.
    fn control<'i>(&mut self, frame: Frame, piece: &'i [u8]) -> Option<Found<'i>> {
        let Frame {
            opcode, remaining, ..
        } = frame;
        let begun = self
            .kept
            .as_ref()
            .is_some_and(|kept| !kept.control.is_empty());
        if piece.len() == remaining && !begun {
            return Some(Found {
                opcode,
                in_place: Some(piece),
            });
        }
        let kept = self.kept.get_or_insert_default();
        kept.control.extend_from_slice(piece);
        if piece.len() < remaining {
            self.frame = Some(frame.after(piece.len()));
            return None;
        }
        kept.lent = mem::take(&mut kept.control);
        Some(Found {
            opcode,
            in_place: None,
        })
    }
}

impl Decode for Decoder {
    fn decode<'e, 'i: 'e>(
        &'e mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Event<'e>>, Violation> {
        if let Some(kept) = &mut self.kept {
            kept.lent = Vec::new();
            if kept.message.is_none() && kept.control.is_empty() {
                self.kept = None;
            }
        }
        if self.reads == Reads::Nothing {
            take_front(input, usize::MAX);
            return Ok(None);
        }
        let Found { opcode, in_place } = match self.find(input) {
            Ok(Some(found)) => found,
            Ok(None) => {
                debug_assert!(input.is_empty());
                return Ok(None);
            }
            Err(violation) => {
                self.end();
                return Err(violation);
            }
        };
        if opcode == Opcode::Close {
            self.end();
        }
        if let Opcode::Message(kind) = opcode {
            let given = || Cow::Owned(mem::take(&mut self.kept().lent));
            let payload = in_place.map_or_else(given, Cow::Borrowed);
            return Ok(Some(Event::Message { kind, payload }));
        }
        let lent = self.kept.as_ref().map_or(&[][..], |kept| &kept.lent);
        let payload = in_place.unwrap_or(lent);
        Ok(Some(match opcode {
            Opcode::Message(_) => unreachable!("it has returned above"),
            Opcode::Continuation => unreachable!("a message is found by its first frame's opcode"),
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong(payload),
            Opcode::Close => close_event(payload)?,
        }))
    }

    fn held(&self) -> usize {
        self.message().map_or(0, PartialMessage::capacity)
    }

    fn end(&mut self) {
        self.reads = Reads::Nothing;
        if let Some(kept) = &mut self.kept {
            kept.message = None;
            kept.control = Vec::new();
        }
    }
}

/// Reads a close frame's payload (RFC 6455, sections 5.5.1 and 7.4).
fn close_event(payload: &[u8]) -> Result<Event<'_>, Violation> {
    match payload {
        [] => Ok(Event::Close {
            code: None,
            reason: "",
        }),
        [_] => Err(Violation::HalfCloseCode),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_close_code(code) {
                return Err(Violation::BadCloseCode);
            }
            let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Violation::BadUtf8)?;
            Ok(Event::Close {
                code: Some(code),
                reason,
            })
        }
    }
}

/// Takes at most `len` bytes from the front of `input`.
fn take_front<'i>(input: &mut &'i mut [u8], len: usize) -> &'i mut [u8] {
    let len = len.min(input.len());
    let (front, rest) = mem::take(input).split_at_mut(len);
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(decoder: &Decoder) -> usize {
        let Some(kept) = &decoder.kept else {
            return 0;
        };
        let message = kept.message.as_ref().map_or(0, PartialMessage::capacity);
        message + kept.control.capacity() + kept.lent.capacity()
    }

    #[test]
    fn memory_follows_what_has_come_and_is_given_back() {
        const LIMIT: usize = 1 << 20;
        let mut decoder = Decoder::new(LIMIT);
        let mut feed = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let mut input = &mut bytes[..];
            while decoder.decode(&mut input).expect("no violation").is_some() {}
            held(&decoder)
        };
        // A megabyte is announced; a kilobyte comes.
        assert_eq!(
            feed(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0]),
            0
        );
        assert!((1024..=2048).contains(&feed(&[0; 1024])));
        assert!(feed(&vec![0; LIMIT - 1025]) <= LIMIT);
        assert_eq!(feed(&[0]), 0, "given back with the message");

        // The same for a ping in two pieces.
        assert!(feed(&[0x89, 0x82, 0, 0, 0, 0, 1]) > 0);
        assert_eq!(feed(&[2]), 0);
        assert!(decoder.kept.is_none(), "an idle decoder holds nothing else");
    }
}
