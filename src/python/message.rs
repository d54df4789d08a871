//! A message as Python has it: str or bytes.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use bytes::Bytes;
use log::Level;

use super::handler::EventBox;
use super::{held, logs};
use crate::actors::frame::{Kind, LARGE_BYTES};
use crate::actors::publish::{publish_in_pace, publish_patiently};
use crate::actors::topic::Topic;
use crate::ipc::{AbandonedHub, Bus, PublishError};

/// What `send` and `publish` take.
pub(super) enum Message<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    /// From a bytearray, memoryview or the like: copied, because it may change.
    Copied(Vec<u8>),
}

impl<'a> Message<'a> {
    /// Reads `message`. `verb` names the call in the error.
    pub(super) fn new(message: &'a Bound<'_, PyAny>, verb: &str) -> PyResult<Self> {
        if let Ok(text) = message.cast::<PyString>() {
            return Ok(Self::Text(text.to_str()?));
        }
        if let Ok(bytes) = message.cast::<PyBytes>() {
            return Ok(Self::Binary(bytes.as_bytes()));
        }
        if let Ok(buffer) = PyBuffer::<u8>::get(message) {
            return Ok(Self::Copied(buffer.to_vec(message.py())?));
        }
        let kind = message.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "{verb} expects str or bytes, got {kind}. For JSON use json.dumps(...)."
        )))
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) | Self::Copied(_) => Kind::Binary,
        }
    }

    /// As a block of its own, if it is large: `object`, which it was read from, or what was copied of it.
    pub(super) fn into_large(
        self,
        object: &Bound<'_, PyAny>,
        events: &EventBox,
    ) -> PyResult<Result<Bytes, Self>> {
        if self.bytes().len() < LARGE_BYTES {
            return Ok(Err(self));
        }
        Ok(Ok(match self {
            Self::Text(_) => held::text_of(object.cast()?, events)?,
            Self::Binary(_) => held::bytes_of(object.cast()?, events),
            Self::Copied(bytes) => bytes.into(),
        }))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

/// Publishes to everybody on the topic, in every process; `left_out` is a session of this worker,
/// or 0. Returns the offset. Waits for hubs that are far behind, without Python's lock, after
/// `before_waiting`.
pub(super) fn publish(
    py: Python<'_>,
    bus: &Bus,
    topic: &Topic,
    message: &Message<'_>,
    left_out: u64,
    before_waiting: impl FnOnce(),
) -> Result<u64, PublishError> {
    // What the slice is of cannot change, and is held by the caller.
    let (kind, bytes) = (message.kind(), message.bytes());
    if let Some(offset) = publish_in_pace(bus, topic, kind, bytes, left_out)? {
        return Ok(offset);
    }
    before_waiting();
    let published = py.detach(|| publish_patiently(bus, topic, kind, bytes, left_out))?;
    for left_behind in published.abandoned_hubs {
        warn(py, bus.name(), left_behind);
    }
    Ok(published.offset)
}

#[cold]
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
    if let Err(error) = logs::tell(py, Level::Warn, &line) {
        error.write_unraisable(py, None);
    }
}

/// A received message as Python's object.
pub(super) fn to_python(py: Python<'_>, kind: Kind, payload: &[u8]) -> PyResult<Py<PyAny>> {
    match kind {
        Kind::Text => Ok(PyString::from_bytes(py, payload)?.into_any().unbind()),
        Kind::Binary => Ok(PyBytes::new(py, payload).into_any().unbind()),
    }
}
