//! The replay that Python requests of a topic's history, and its result.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::message::to_python;
use super::record::Record;
use crate::actors::frame::{Kind, message_of};
use crate::ipc::{self, Bus, ReplayRange};

/// Bytes of frames that one call returns at most. A larger result is marked as not complete.
const MAX_BYTES: usize = 64 << 20;

/// The replay that a client got when it subscribed.
#[pyclass(frozen, get_all, module = "fanbus")]
pub(super) struct Replay {
    messages: usize,
    complete: bool,
    end: u64,
    epoch: u64,
}

impl Replay {
    pub(super) fn new(past: &ipc::Replay, bus: &Bus, end: u64) -> Self {
        Self {
            messages: past.records.len(),
            complete: past.complete,
            end,
            epoch: bus.epoch(),
        }
    }

    /// The result without a request: empty and complete.
    pub(super) fn nothing(bus: &Bus, end: u64) -> Self {
        Self {
            messages: 0,
            complete: true,
            end,
            epoch: bus.epoch(),
        }
    }
}

#[pymethods]
impl Replay {
    fn __repr__(&self) -> String {
        let complete = if self.complete { "" } else { ", not complete" };
        format!("<Replay of {} messages{complete}>", self.messages)
    }
}

/// The arguments that select earlier messages. All None: no replay.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReplayRequest {
    pub(super) last: Option<i64>,
    pub(super) since: Option<i64>,
    pub(super) epoch: Option<u64>,
}

impl ReplayRequest {
    pub(super) fn reach(self, bus: &Bus) -> PyResult<Option<ReplayRange>> {
        match self {
            Self {
                last: None,
                since: None,
                epoch: None,
            } => Ok(None),
            Self {
                since: None,
                epoch: Some(_),
                ..
            } => Err(PyValueError::new_err(
                "epoch must be passed together with since: it names the bus of that offset.",
            )),
            Self {
                last: Some(_),
                since: Some(_),
                ..
            } => Err(PyValueError::new_err(
                "last and since cannot be combined: pass one of them.",
            )),
            Self {
                last: Some(count), ..
            } => usize::try_from(count)
                .map(|count| Some(ReplayRange::Last(count)))
                .map_err(|_| {
                    PyValueError::new_err(format!("last must be 0 or more, got {count}."))
                }),
            Self {
                since: Some(offset),
                epoch,
                ..
            } => {
                if offset < -1 {
                    return Err(PyValueError::new_err(format!(
                        "since must be the offset of a message, or -1 for all messages, got {offset}."
                    )));
                }
                let is_of_this_life = epoch.is_none_or(|epoch| epoch == bus.epoch());
                // The offset is from another epoch: the client has seen no message of this one.
                let from = if is_of_this_life {
                    (offset + 1) as u64
                } else {
                    u64::MAX
                };
                Ok(Some(ReplayRange::From(from)))
            }
        }
    }
}

/// The requested records of the topic below `until`, and whether they are complete.
pub(super) fn records<'py>(
    py: Python<'py>,
    bus: &Bus,
    topic: &Bound<'py, PyAny>,
    name: &str,
    reach: ReplayRange,
    until: u64,
) -> PyResult<(Vec<Record>, bool)> {
    let past = py.detach(|| bus.replay(name, reach, until, MAX_BYTES));
    let records = past.records.iter().map(|it| {
        let frame = &past.frames[it.frame.clone()];
        let (kind, payload) = message_of(frame).unwrap_or((Kind::Binary, frame));
        let message =
            to_python(py, kind, payload).or_else(|_| to_python(py, Kind::Binary, payload))?;
        Ok(Record::new(topic.clone().unbind(), message, it.offset))
    });
    Ok((records.collect::<PyResult<_>>()?, past.complete))
}
