//! The one way in: a message is framed, once for all clients there are, and put on the bus.

use super::frame::{self, Kind};
use super::topic::Topic;
use crate::ipc::{Bus, Draft, PublishError};

/// Publishes to everybody on the topic, in every process; `left_out` is the key of a session of
/// this worker that does not get it, or 0. Returns the offset.
pub fn publish(
    bus: &Bus,
    topic: &Topic,
    kind: Kind,
    payload: &[u8],
    left_out: u64,
) -> Result<u64, PublishError> {
    bus.publish(&Draft {
        topic: topic.as_str(),
        topic_hash: topic.hash(),
        flags: kind as u8,
        origin: left_out,
        frame: [&frame::message_header(kind, payload.len()), payload],
    })
}
