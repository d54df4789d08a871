//! Messages as events of a stream (Server-Sent Events, HTML standard section 9.2).
//!
//! Plain bytes: it knows no connection. An event's id names a message by its offset and by the life of
//! the bus that the offset belongs to, so that a client which comes back is not given a later life's
//! messages for those that it has missed.

use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::frame::{self, Kind};
use super::replays::{Piece, Pieces, Replays};
use crate::ipc::Replay;

/// Where in the one order a client is: it has had everything up to here.
///
/// ```
/// use fanbus::actors::event::Position;
///
/// let position: Position = "17-42".parse().expect("an id of ours");
/// assert_eq!((position.epoch, position.next), (17, 43));
/// assert_eq!(position.to_string(), "17-42");
/// ```
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Position {
    /// Which life of the bus.
    pub epoch: u64,
    /// The offset behind the last one that the client has had.
    pub next: u64,
}

/// The text is no id that an event stream has given.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct NoPosition;

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.epoch, i128::from(self.next) - 1)
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (epoch, offset) = text.split_once('-').ok_or(NoPosition)?;
        let offset: i64 = offset.parse().map_err(|_| NoPosition)?;
        let next = offset.checked_add(1).and_then(|next| next.try_into().ok());
        Ok(Self {
            epoch: epoch.parse().map_err(|_| NoPosition)?,
            next: next.ok_or(NoPosition)?,
        })
    }
}

/// A whole message's frame as an event. Lines end as they like: the client gets them with `\n`. Bytes
/// that are no text come in base64, as an event called `binary`.
///
/// ```
/// use fanbus::actors::event::event;
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
        // Not from a publisher of ours: its place in the order is all that is passed on.
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

/// A comment, so that nobody in between takes the connection for dead. It tells how far the client is,
/// although nothing came that was for it.
pub fn ping(position: Position) -> Bytes {
    format!(": ping\nid: {position}\n\n").into()
}

/// What a stream begins with.
#[derive(Debug)]
pub struct Beginning {
    /// How long the client waits before it comes back, in milliseconds.
    pub retry_ms: u64,
    /// Where its messages begin.
    pub position: Position,
}

impl Beginning {
    /// With nothing of the past.
    pub fn alone(&self) -> Vec<Piece> {
        let bytes = format!("retry: {}\nid: {}\n\n", self.retry_ms, self.position);
        vec![Piece::Own(bytes.into())]
    }

    /// With the newest of `past` that have room in `most` bytes. A client that asked for all of it
    /// (`tells`), and does not get all, is told by an event called `gap`.
    pub fn with(&self, past: &Replay, most: usize, tells: bool, replays: &Replays) -> Vec<Piece> {
        let mut events = Vec::new();
        let mut bytes = 0;
        for record in past.records.iter().rev() {
            let frame = &past.frames[record.frame.clone()];
            let event = replays.event(frame, self.position.epoch, record.offset);
            bytes += event.bytes().len();
            if bytes > most {
                break;
            }
            events.push(event);
        }
        let mut out = Pieces::default();
        let _ = writeln!(out.small, "retry: {}", self.retry_ms);
        if tells && !(past.complete && events.len() == past.records.len()) {
            // The id goes with what it is known to have: all before the first message that follows.
            let oldest = events.len().checked_sub(1);
            let oldest = oldest.map(|last| past.records[past.records.len() - 1 - last].offset);
            let position = Position {
                next: oldest.unwrap_or(self.position.next),
                ..self.position
            };
            let _ = write!(
                out.small,
                "id: {position}\nevent: gap\ndata: {}\n\n",
                events.len()
            );
        }
        for event in events.into_iter().rev() {
            out.push(event);
        }
        let _ = write!(out.small, "id: {}\n\n", self.position);
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::ReplayRecord;

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).expect("text")
    }

    #[test]
    fn every_end_of_a_line_begins_another() {
        let frame = [&*frame::message_header(Kind::Text, 10), b"a\r\nb\rc\n\nd\n"].concat();
        let expected = "id: 1-2\ndata: a\ndata: b\ndata: c\ndata: \ndata: d\ndata: \n\n";
        assert_eq!(text(&event(&frame, 1, 2)), expected);
        assert_eq!(text(&event(b"\x81\x00", 1, 2)), "id: 1-2\ndata: \n\n");
    }

    #[test]
    fn bytes_come_in_base64_and_what_is_no_message_only_has_its_place() {
        let binary = event(b"\x82\x03\xFF\n\0", 1, 0);
        assert_eq!(text(&binary), "id: 1-0\nevent: binary\ndata: /woA\n\n");
        assert_eq!(text(&event(b"\x81\x05hi", 1, 0)), "id: 1-0\n\n");
        assert_eq!(text(&event(b"", 1, 0)), "id: 1-0\n\n");
    }

    #[test]
    fn an_id_is_read_as_it_was_written_and_nothing_else_is_one() {
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
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_any_more_or_has_no_room_is_told() {
        let record = |offset, at: usize| ReplayRecord {
            offset,
            flags: 0,
            frame: at..at + 3,
        };
        let mut past = Replay {
            frames: b"\x81\x01a\x81\x01b".to_vec(),
            records: vec![record(5, 0), record(8, 3)],
            complete: true,
        };
        let position = Position { epoch: 1, next: 10 };
        let beginning = Beginning {
            retry_ms: 3000,
            position,
        };
        let both = "id: 1-5\ndata: a\n\nid: 1-8\ndata: b\n\nid: 1-9\n\n";
        let replays = Replays::default();
        let with = |past: &Replay, most, tells| {
            let pieces = beginning.with(past, most, tells, &replays);
            let bytes: Vec<_> = pieces.iter().map(|piece| &piece.bytes()[..]).collect();
            Bytes::from(bytes.concat())
        };
        let all = with(&past, 1000, true);
        assert_eq!(text(&all), format!("retry: 3000\n{both}"));
        let cut = with(&past, 20, true);
        let newest = "id: 1-7\nevent: gap\ndata: 1\n\nid: 1-8\ndata: b\n\nid: 1-9\n\n";
        assert_eq!(text(&cut), format!("retry: 3000\n{newest}"));
        past.complete = false;
        let gap = format!("retry: 3000\nid: 1-4\nevent: gap\ndata: 2\n\n{both}");
        assert_eq!(text(&with(&past, 1000, true)), gap);
        let asked_for_less = with(&past, 1000, false);
        assert_eq!(text(&asked_for_less), format!("retry: 3000\n{both}"));
        past.records.clear();
        let nothing = "retry: 3000\nid: 1-9\nevent: gap\ndata: 0\n\nid: 1-9\n\n";
        assert_eq!(text(&with(&past, 1000, true)), nothing);
    }
}
