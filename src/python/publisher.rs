//! The trait of the handles that publish messages of Python: each can wait for slow hubs without Python's lock.

use log::Level;
use pyo3::prelude::*;

use super::errors::value_error;
use super::logs;
use super::message::Message;
use crate::actors::frame::message_header;
use crate::actors::publish::draft;
use crate::actors::topic::Topic;
use crate::ipc::{AbandonedHub, Bus, Draft, PublishError};

/// A handle on a bus: a program's own, or a worker's.
pub(super) trait Publisher {
    /// The bus that messages are published to.
    fn bus(&self) -> &Bus;

    /// The exception for a bus that takes no message.
    fn error(error: &PublishError) -> PyErr;

    /// Called before this thread waits for hubs.
    fn before_waiting(&self) {}

    /// Called when a message has been published at this offset.
    fn has_published(&self, _offset: u64) {}

    /// Publishes to every subscriber of the topic, in every process, but for one session of this worker, whose key is
    /// `exclude_session`; 0 excludes none. Returns the offset. Waits for hubs that are far behind, without Python's
    /// lock. `ValueError` for a bad topic and a message that is too large, `TypeError` for other than str or bytes.
    fn publish_message(
        &self,
        topic: &str,
        message: &Bound<'_, PyAny>,
        exclude_session: u64,
    ) -> PyResult<u64> {
        let topic = Topic::new(topic).map_err(value_error)?;
        let (py, message) = (message.py(), Message::new(message, "publish")?);
        // The bytes cannot change: the caller holds the object that the slice is of, or they are a copy.
        let (kind, payload) = (message.kind(), message.bytes());
        let header = message_header(kind, payload.len());
        let draft = draft(&topic, kind, &header, payload, exclude_session);
        let bus = self.bus();
        let error = |error: PublishError| match error {
            PublishError::TooLarge { .. } => value_error(error),
            _ => Self::error(&error),
        };
        let offset = if let Some(offset) = bus.try_publish(&draft).map_err(error)? {
            offset
        } else {
            self.before_waiting();
            publish_blocking(py, bus, &draft).map_err(error)?
        };
        self.has_published(offset);
        Ok(offset)
    }
}

/// Publishes after slow hubs have caught up, without Python's lock while it waits.
#[cold]
fn publish_blocking(py: Python<'_>, bus: &Bus, draft: &Draft<'_>) -> Result<u64, PublishError> {
    let published = py.detach(|| bus.publish_blocking(draft))?;
    for hub in published.abandoned_hubs {
        warn(py, bus.name(), hub);
    }
    Ok(published.offset)
}

fn warn(
    py: Python<'_>,
    bus: &str,
    AbandonedHub {
        pid,
        made_no_progress,
    }: AbandonedHub,
) {
    let what = if made_no_progress {
        "stands still"
    } else {
        "is far too slow"
    };
    let line = format!(
        "Publishing to the bus {bus:?} does not wait for the worker with PID {pid} any more: it {what}. \
         If it is overtaken, its clients that may have missed something are closed with 1013."
    );
    // A broken handler of logging must not lose the offset.
    if let Err(error) = logs::write(py, Level::Warn, &line) {
        error.write_unraisable(py, None);
    }
}
