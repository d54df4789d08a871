//! The one way in: a message is framed, once for all clients there are, and put on the bus.

use super::frame::{self, Kind};
use super::topic::Topic;
use crate::ipc::{Bus, Draft, Publication, PublishError};

/// Publishes to everybody on the topic, in every process; `left_out` is the key of a session of
/// this worker that does not get it, or 0. Returns the offset. Waits for nobody.
pub fn publish(
    bus: &Bus,
    topic: &Topic,
    kind: Kind,
    payload: &[u8],
    left_out: u64,
) -> Result<u64, PublishError> {
    let header = frame::message_header(kind, payload.len());
    bus.publish(&draft(topic, kind, [&header, payload], left_out))
}

/// The same, unless a hub is so far behind that whoever can wait for it should: then `None`.
pub fn publish_in_pace(
    bus: &Bus,
    topic: &Topic,
    kind: Kind,
    payload: &[u8],
    left_out: u64,
) -> Result<Option<u64>, PublishError> {
    let header = frame::message_header(kind, payload.len());
    bus.try_publish(&draft(topic, kind, [&header, payload], left_out))
}

/// The same, after hubs that are far behind have come on. Blocks, for some seconds at most: not for the I/O
/// thread, nor for a thread that it could wait for.
pub fn publish_patiently(
    bus: &Bus,
    topic: &Topic,
    kind: Kind,
    payload: &[u8],
    left_out: u64,
) -> Result<Publication, PublishError> {
    let header = frame::message_header(kind, payload.len());
    bus.publish_blocking(&draft(topic, kind, [&header, payload], left_out))
}

fn draft<'a>(topic: &'a Topic, kind: Kind, frame: [&'a [u8]; 2], left_out: u64) -> Draft<'a> {
    Draft {
        topic: topic.as_str(),
        topic_hash: topic.hash(),
        flags: kind as u8,
        exclude_session: left_out,
        frame,
    }
}
