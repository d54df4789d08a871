//! The functions that make a record of a message: it is framed once, for the clients of all workers.

use super::frame::{self, FrameHeader, Kind};
use super::topic::Topic;
use crate::ipc::{Bus, Draft, PublishError};

/// Publishes to every subscriber of the topic, in every process; `exclude_session` is the key of a session of
/// this worker that does not get it, or 0. Returns the offset. Never blocks.
pub fn publish(
    bus: &Bus,
    topic: &Topic,
    kind: Kind,
    payload: &[u8],
    exclude_session: u64,
) -> Result<u64, PublishError> {
    let header = frame::message_header(kind, payload.len());
    bus.publish(&draft(topic, kind, &header, payload, exclude_session))
}

/// The record of a message. `header` is that of the message's frame.
pub fn draft<'a>(
    topic: &'a Topic,
    kind: Kind,
    header: &'a FrameHeader,
    payload: &'a [u8],
    exclude_session: u64,
) -> Draft<'a> {
    Draft {
        topic: topic.as_str(),
        topic_hash: topic.hash(),
        flags: kind as u8,
        exclude_session,
        frame: [header, payload],
    }
}
