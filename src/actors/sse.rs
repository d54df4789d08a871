//! The encoding that turns messages into Server-Sent Events (HTML standard, section 9.2).
//!
//! Plain bytes: it knows no connection. The id of an event names a message by its offset, and by the epoch of
//! the bus. So a client that reconnects never gets messages of another bus instead of those that it missed.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::frame::{self, Kind};

/// The position of a client in the order of the bus: it has received everything before it.
///
/// ```
/// use fanbus::actors::sse::Position;
///
/// let position: Position = "17-42".parse().expect("an id of ours");
/// assert_eq!((position.epoch, position.next), (17, 43));
/// assert_eq!(position.to_string(), "17-42");
/// ```
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Position {
    /// The epoch of the bus.
    pub epoch: u64,
    /// The offset behind the last one that the client has received.
    pub next: u64,
}

/// The string is not an id that an event stream has sent.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct InvalidPosition;

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.epoch, i128::from(self.next) - 1)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let (epoch, offset) = text.split_once('-').ok_or(InvalidPosition)?;
        let offset: i64 = offset.parse().map_err(|_| InvalidPosition)?;
        let next = offset.checked_add(1).and_then(|next| next.try_into().ok());
        Ok(Self {
            epoch: epoch.parse().map_err(|_| InvalidPosition)?,
            next: next.ok_or(InvalidPosition)?,
        })
    }
}

/// Encodes the frame of a whole message as an event. The client gets all line ends as `\n`. A binary message
/// becomes an event with the name `binary`, in base64.
///
/// ```
/// use fanbus::actors::sse::event;
///
/// let bytes = event(b"\x81\x03a\nb", 17, 42);
/// assert_eq!(bytes, "id: 17-42\ndata: a\ndata: b\n\n");
/// ```
pub fn event(frame: &[u8], epoch: u64, offset: u64) -> Bytes {
    let mut out = Vec::with_capacity(frame.len() + 64);
    let next = offset + 1;
    writeln!(out, "id: {}", Position { epoch, next }).expect("a vector takes all");
    match frame::message_of(frame) {
        Some((Kind::Text, payload)) => lines(payload, &mut out),
        Some((Kind::Binary, payload)) => {
            out.extend_from_slice(b"event: binary\ndata: ");
            out.extend_from_slice(STANDARD.encode(payload).as_bytes());
            out.push(b'\n');
        }
        // Not a message of Fanbus: only its position is passed on.
        None => {}
    }
    out.push(b'\n');
    out.into()
}

fn lines(mut text: &[u8], out: &mut Vec<u8>) {
    loop {
        let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&text[..end.unwrap_or(text.len())]);
        out.push(b'\n');
        let Some(end) = end else {
            return;
        };
        let is_pair = text[end..].starts_with(b"\r\n");
        text = &text[end + 1 + usize::from(is_pair)..];
    }
}

/// A comment, so that no proxy considers the connection dead. Its id moves the position of the client forward,
/// although no message was for it.
pub fn ping(position: Position) -> Bytes {
    format!(": ping\nid: {position}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).expect("text")
    }

    #[test]
    fn every_line_end_begins_another_line() {
        let frame = [&*frame::message_header(Kind::Text, 10), b"a\r\nb\rc\n\nd\n"].concat();
        let expected = "id: 1-2\ndata: a\ndata: b\ndata: c\ndata: \ndata: d\ndata: \n\n";
        assert_eq!(text(&event(&frame, 1, 2)), expected);
        assert_eq!(text(&event(b"\x81\x00", 1, 2)), "id: 1-2\ndata: \n\n");
    }

    #[test]
    fn bytes_are_sent_in_base64_and_other_data_only_has_its_position() {
        let binary = event(b"\x82\x03\xFF\n\0", 1, 0);
        assert_eq!(text(&binary), "id: 1-0\nevent: binary\ndata: /woA\n\n");
        assert_eq!(text(&event(b"\x81\x05hi", 1, 0)), "id: 1-0\n\n");
        assert_eq!(text(&event(b"", 1, 0)), "id: 1-0\n\n");
    }

    #[test]
    fn an_id_is_read_as_it_was_written_and_other_texts_are_errors() {
        for next in [0, 1, 43, i64::MAX as u64] {
            let position = Position { epoch: 17, next };
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        for text in [
            "",
            "-",
            "17",
            "17-",
            "-1-2",
            "17-x",
            "17--2",
            "17-9223372036854775807",
        ] {
            assert_eq!(text.parse::<Position>(), Err(InvalidPosition), "{text}");
        }
    }
}
