//! The records that an undamaged segment must return: a plain list of all published messages.

use crate::ipc::cursor::Next;
use crate::ipc::log::LogDamage;
use crate::ipc::parts::Parts;
use crate::ipc::producer::{Producer, PublishHints};
use crate::ipc::record::{Draft, Head, topic_hash};

pub(super) const TOPICS: [&str; 4] = ["a", "room:lobby", "größe", "x:0123456789:0123456789"];

const HINTS: PublishHints = PublishHints {
    seen: 0,
    seconds: 0,
};

/// A published message.
#[derive(Debug)]
struct Message {
    topic: &'static str,
    frame: Vec<u8>,
}

/// All published messages, by offset.
#[derive(Debug, Default)]
pub(super) struct ExpectedRecords(Vec<Message>);

impl ExpectedRecords {
    /// Publishes a message. Its frame follows from its number, its length and its topic.
    pub(super) fn publish(
        &mut self,
        producer: &mut Producer,
        parts: Parts<'_>,
        topic: u8,
        bytes: usize,
    ) -> Result<u64, LogDamage> {
        let topic = TOPICS[usize::from(topic) % TOPICS.len()];
        let number = self.0.len();
        let frame: Vec<u8> = (0..bytes).map(|at| (at ^ number) as u8).collect();
        let (head, payload) = frame.split_at(bytes.min(3));
        let draft = Draft {
            topic,
            topic_hash: topic_hash(topic.as_bytes()),
            flags: number as u8,
            exclude_session: bytes as u64,
            frame: [head, payload],
        };
        let (log, ring) = (parts.log(), parts.ring(producer.slot()));
        let offset = producer.publish(log, ring, &draft, HINTS, |_| ())?;
        self.0.push(Message { topic, frame });
        Ok(offset)
    }

    pub(super) fn end(&self) -> u64 {
        self.0.len() as u64
    }

    /// Checks that a record is the one that was published at its offset.
    pub(super) fn check_record(&self, head: &Head, frame: &[u8], topic: &str) {
        let message = &self.0[head.offset as usize];
        assert_eq!((frame, topic), (&message.frame[..], message.topic));
        assert_eq!(head.topic_hash, topic_hash(topic.as_bytes()));
        assert_eq!(head.flags, head.offset as u8);
        assert_eq!(head.exclude_session, frame.len() as u64);
    }

    /// Checks that a reader that moved from `before` to `after` is where the result says.
    pub(super) fn check_next(&self, next: &Next, before: u64, after: u64) {
        match next {
            Next::Empty => assert_eq!(after, self.end(), "there was more"),
            Next::Lagged(count) => assert!(*count <= after - before && after <= self.end()),
            Next::Record(_) | Next::Skipped => assert!(after <= self.end()),
        }
    }
}
