//! `_core.AccessLog`: the queue that carries the notes of a worker to the thread that writes its access log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::http::access::{self, Note, Notes, What};

/// Notes that one call returns at most.
const BATCH: usize = 1024;

/// The queue between a worker's I/O thread and the thread that writes its access log.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct AccessLog {
    pub(super) put: access::AccessLog,
    notes: Mutex<Notes>,
}

/// A note as a tuple; the stub names its items.
type Row = (
    &'static str,
    f64,
    f64,
    Option<(String, u16)>,
    bool,
    String,
    String,
    &'static str,
    u16,
    Option<u64>,
    String,
    String,
);

#[pymethods]
impl AccessLog {
    #[new]
    fn new() -> Self {
        let (put, notes) = access::queue();
        Self {
            put,
            notes: Mutex::new(notes),
        }
    }

    /// The notes since the last call, and how many were lost. Waits for the first one, without Python's lock, for
    /// at most `limit_s` seconds.
    fn take(&self, py: Python<'_>, limit_s: f64) -> PyResult<(Vec<Row>, u64)> {
        let limit = Duration::try_from_secs_f64(limit_s).map_err(|_| {
            PyValueError::new_err("limit_s must be a number of seconds, 0 or more.")
        })?;
        let (notes, lost) = py.detach(|| {
            let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.take(limit, BATCH)
        });
        Ok((notes.into_iter().map(row).collect(), lost))
    }

    /// Ends a `take` that waits.
    fn end(&self) {
        self.put.end();
    }
}

fn row(note: Note) -> Row {
    let what = match note.what {
        What::Request => "request",
        What::Opened => "opened",
        What::Closed => "closed",
    };
    // A clock that is before 1970 is not worth an error.
    let at = note.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    (
        what,
        at.as_secs_f64(),
        note.took.as_secs_f64(),
        note.peer
            .address
            .map(|peer| (peer.ip().to_string(), peer.port())),
        note.peer.is_secure,
        note.method.into_string(),
        note.target.into_string(),
        note.version,
        note.status,
        note.bytes,
        String::from_utf8_lossy(&note.referer).into_owned(),
        String::from_utf8_lossy(&note.agent).into_owned(),
    )
}
