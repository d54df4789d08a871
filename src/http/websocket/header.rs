//! The header of a client's frame (RFC 6455, section 5.2) that is checked as its bytes come in.

use super::mask::advance;
use super::message::{MAX_FRAGMENTS, PartialMessage};
use crate::actors::close::Violation;
use crate::actors::frame::{Kind, MAX_CONTROL_PAYLOAD};

/// The longest header: two bytes, eight of length, four of mask.
pub(super) const MAX_HEADER: usize = 14;

const FIN: u8 = 0x80;
const DEFLATED: u8 = 0x40;
const RESERVED: u8 = 0x30;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;

/// The rules that the frames of a client are checked against.
#[derive(Copy, Clone, Debug)]
pub(super) struct Rules {
    /// The most payload bytes of one message, over all its fragments, inflated.
    pub(super) max_message_bytes: usize,
    /// Messages may be deflated.
    pub(super) inflates: bool,
}

impl Rules {
    /// The most payload bytes of one message as it comes. A deflated message may be longer than its inflated form:
    /// the codes that need no table take nine bits for some bytes (RFC 1951, section 3.2.6). The smallest limits
    /// must leave room for the ends of blocks.
    pub(super) fn most_bytes(self, is_deflated: bool) -> usize {
        let most = self.max_message_bytes;
        if is_deflated {
            most.saturating_add(most / 8).saturating_add(64)
        } else {
            most
        }
    }
}

/// A frame being received.
#[derive(Copy, Clone, Debug)]
pub(super) struct Frame {
    pub(super) opcode: Opcode,
    /// No fragment follows it.
    pub(super) is_final: bool,
    /// It begins or continues a deflated message.
    pub(super) is_deflated: bool,
    /// The mask, turned so that its first byte belongs to the next byte of payload.
    pub(super) key: [u8; 4],
    /// The payload bytes that have not come yet. At most [`Rules::most_bytes`].
    pub(super) remaining: usize,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Opcode {
    Continuation,
    Message(Kind),
    Close,
    Ping,
    Pong,
}

impl Opcode {
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

impl Frame {
    /// The same frame after `taken` bytes of its payload have come.
    pub(super) fn after(self, taken: usize) -> Self {
        Self {
            key: advance(self.key, taken),
            remaining: self.remaining - taken,
            ..self
        }
    }
}

/// Checks as much of a header as `bytes` has, in the order of the bytes: so the verdict does not depend on how they
/// were cut. Returns the frame and the header's length once the header is whole.
pub(super) fn parse(
    bytes: &[u8],
    message: Option<&PartialMessage>,
    rules: Rules,
) -> Result<Option<(Frame, usize)>, Violation> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let is_final = first & FIN != 0;
    let opcode = parse_opcode(first, is_final, message, rules.inflates)?;
    let is_deflated = first & DEFLATED != 0 || message.is_some_and(PartialMessage::is_deflated);

    let Some(&second) = bytes.get(1) else {
        return Ok(None);
    };
    if second & MASKED == 0 {
        return Err(Violation::NotMasked);
    }
    let short = second & LENGTH;
    if opcode.is_control() && short as usize > MAX_CONTROL_PAYLOAD {
        return Err(Violation::LongControl);
    }
    let (payload_len, key_at) = match short {
        126 => {
            let Some(len) = bytes[2..].first_chunk() else {
                return Ok(None);
            };
            (u16::from_be_bytes(*len) as u64, 4)
        }
        127 => {
            let Some(len) = bytes[2..].first_chunk() else {
                return Ok(None);
            };
            (u64::from_be_bytes(*len), 10)
        }
        short => (short as u64, 2),
    };
    match short {
        126 if payload_len < 126 => return Err(Violation::LongLengthForm),
        127 if payload_len <= 0xFFFF => return Err(Violation::LongLengthForm),
        127 if payload_len >> 63 != 0 => return Err(Violation::LengthTopBit),
        _ => {}
    }
    if !opcode.is_control() {
        let had = message.map_or(0, PartialMessage::len);
        let most = rules.most_bytes(is_deflated);
        debug_assert!(had <= most);
        if payload_len > (most - had) as u64 {
            return Err(Violation::MessageTooBig);
        }
    }

    let Some(&key) = bytes[key_at..].first_chunk() else {
        return Ok(None);
    };
    let frame = Frame {
        opcode,
        is_final,
        is_deflated,
        key,
        remaining: payload_len as usize,
    };
    Ok(Some((frame, key_at + key.len())))
}

/// Checks a header's first byte, against the frames before it.
fn parse_opcode(
    first: u8,
    is_final: bool,
    message: Option<&PartialMessage>,
    inflates: bool,
) -> Result<Opcode, Violation> {
    // The first of the three is for the first frame of a message, if permessage-deflate was agreed
    // on (RFC 7692, section 6.1).
    let begins_message = matches!(first & OPCODE, 0x1 | 0x2);
    if first & RESERVED != 0 || first & DEFLATED != 0 && !(inflates && begins_message) {
        return Err(Violation::ReservedBits);
    }
    let opcode = match first & OPCODE {
        0x0 => Opcode::Continuation,
        0x1 => Opcode::Message(Kind::Text),
        0x2 => Opcode::Message(Kind::Binary),
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xA => Opcode::Pong,
        _ => return Err(Violation::ReservedOpcode),
    };
    match (opcode, message) {
        (Opcode::Close | Opcode::Ping | Opcode::Pong, _) if !is_final => {
            Err(Violation::FragmentedControl)
        }
        (Opcode::Continuation, None) => Err(Violation::NothingToContinue),
        (Opcode::Message(_), Some(_)) => Err(Violation::UnfinishedMessage),
        (Opcode::Continuation, Some(message)) if message.fragments() == MAX_FRAGMENTS => {
            Err(Violation::TooManyFragments)
        }
        _ => Ok(opcode),
    }
}
