//! The beginning that an event stream sends first: the messages that a client missed, and a report if some are
//! gone.

use std::io::Write as _;

use super::replays::{Piece, Pieces, Replays};
use super::sse::Position;
use crate::ipc::Replay;

/// The first events of a stream: the time before a reconnect, the position, and a replay.
#[derive(Debug)]
pub struct SseBeginning {
    /// The time that the client waits before it reconnects, in milliseconds.
    pub retry_ms: u64,
    /// The position at which live messages begin.
    pub position: Position,
}

impl SseBeginning {
    /// Without a replay.
    pub fn alone(&self) -> Vec<Piece> {
        let bytes = format!("retry: {}\nid: {}\n\n", self.retry_ms, self.position);
        vec![Piece::Own(bytes.into())]
    }

    /// With the newest records of the replay that fit into `most` bytes. `reports_gap`: the client requested all of
    /// it. If it does not get all, an event with the name `gap` comes first.
    pub fn with(
        &self,
        past: &Replay,
        most: usize,
        reports_gap: bool,
        replays: &Replays,
    ) -> Vec<Piece> {
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
        if reports_gap && !(past.complete && events.len() == past.records.len()) {
            // The id is the position of the client: before the first message that follows.
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
    use bytes::Bytes;

    use super::*;
    use crate::ipc::ReplayRecord;

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).expect("text")
    }

    #[test]
    fn records_that_are_gone_or_do_not_fit_are_reported_as_a_gap() {
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
        let beginning = SseBeginning {
            retry_ms: 3000,
            position,
        };
        let both = "id: 1-5\ndata: a\n\nid: 1-8\ndata: b\n\nid: 1-9\n\n";
        let replays = Replays::default();
        let with = |past: &Replay, most, reports_gap| {
            let pieces = beginning.with(past, most, reports_gap, &replays);
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
