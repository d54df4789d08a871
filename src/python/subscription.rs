//! `_core.Subscription`, what it gives, and the bell that an event loop watches for it.

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

/// One reader of one topic. Keeps the bus open.
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
    /// The next record; None if there is none yet, or if it is closed. `Lagged`, `BusError`.
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

    /// Blocks this thread until there may be something, for a quarter of a second at most, and for
    /// no longer than `limit_s`.
    #[pyo3(signature = (limit_s=f64::INFINITY))]
    fn sleep(&self, py: Python<'_>, limit_s: f64) {
        // What is no duration, infinity for example, is no limit.
        let limit = Duration::try_from_secs_f64(limit_s).unwrap_or(Duration::MAX);
        py.detach(|| {
            if let Some((bus, offset)) = self.cursor.place() {
                bus.sleep_for(offset, limit);
            }
        });
    }

    /// Ends it. Twice is allowed.
    fn close(&self) {
        self.cursor.close();
        self.readers.ring();
    }

    #[getter]
    fn closed(&self) -> bool {
        self.cursor.is_closed()
    }
}

/// A descriptor that is readable when subscriptions may have something to read.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Bell(pub(super) Arc<FdSignal>);

#[pymethods]
impl Bell {
    fn fileno(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }

    /// Makes it unreadable until the next ring. Before polling.
    fn clear(&self) {
        self.0.clear();
    }
}
