//! `_core.Subscription`: the reader of one topic; and the bell that an event loop watches for it.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;

use super::errors::{BusError, Lagged};
use super::message::to_python;
use super::readers::{Cursor, Readers, Step};
use super::record::Record;
use crate::actors::frame::Kind;
use crate::actors::mailbox::FdSignal;
use crate::ipc::{self, Fate, PublishError};

/// One reader of one topic. It holds the bus open.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Subscription {
    cursor: Arc<Cursor>,
    topic: Py<PyAny>,
    readers: Arc<Readers>,
    /// The bus stays open as long as this object exists.
    _bus: Py<PyAny>,
}

impl Subscription {
    pub(super) fn new(
        py: Python<'_>,
        cursor: Arc<Cursor>,
        readers: Arc<Readers>,
        bus: Py<PyAny>,
    ) -> PyResult<Self> {
        let topic = cursor.topic.as_str().into_pyobject(py)?;
        Ok(Self {
            topic: topic.into_any().unbind(),
            cursor,
            readers,
            _bus: bus,
        })
    }
}

#[pymethods]
impl Subscription {
    /// The next record. None if there is none yet, or if the subscription is closed. `Lagged`, `BusError`.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Record>> {
        match self.cursor.next() {
            Step::Message {
                offset,
                kind,
                frame,
                header_len,
            } => {
                let payload = &frame[header_len..];
                let message = to_python(py, kind, payload)
                    .or_else(|_| to_python(py, Kind::Binary, payload))?;
                Ok(Some(Record::new(self.topic.clone_ref(py), message, offset)))
            }
            Step::Missed(missed) => Err(Lagged::new_err(missed)),
            Step::Nothing => Ok(None),
            Step::CutOff(Fate::Removed) => {
                Err(BusError::new_err(PublishError::Removed.to_string()))
            }
            Step::CutOff(Fate::Damaged) => {
                Err(BusError::new_err(PublishError::Damaged.to_string()))
            }
            Step::Forked => Err(BusError::new_err(ipc::BusError::Forked.to_string())),
        }
    }

    /// Blocks this thread until there may be a record, for at most a quarter of a second, and at most `limit_s` seconds.
    #[pyo3(signature = (limit_s=f64::INFINITY))]
    fn sleep(&self, py: Python<'_>, limit_s: f64) {
        // A number that is not a duration, such as infinity, is not a limit.
        let limit = Duration::try_from_secs_f64(limit_s).unwrap_or(Duration::MAX);
        py.detach(|| {
            if let Some((bus, offset)) = self.cursor.place() {
                bus.sleep_for(offset, limit);
            }
        });
    }

    /// Ends the subscription. Further calls do nothing.
    fn close(&self) {
        self.cursor.close();
        self.readers.wake_loops();
    }

    #[getter]
    fn closed(&self) -> bool {
        self.cursor.is_closed()
    }
}

/// The descriptor that is readable when subscriptions may have records to read.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Bell(pub(super) Arc<FdSignal>);

#[pymethods]
impl Bell {
    fn fileno(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }

    /// Makes it unreadable until it is raised again. Call it before polling.
    fn clear(&self) {
        self.0.clear();
    }
}
