//! `_core.AccessLog`: the queue that carries the records of a worker to the thread that writes its access log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::http::access::{self, AccessKind, AccessRecord, AccessRecords};

/// Records that one call returns at most.
const BATCH: usize = 1024;

/// The queue between a worker's I/O thread and the thread that writes its access log.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct AccessLog {
    pub(super) put: access::AccessLog,
    records: Mutex<AccessRecords>,
}

/// A record as a tuple; the stub names its items.
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
        let (put, records) = access::queue();
        Self {
            put,
            records: Mutex::new(records),
        }
    }

    /// The records since the last call, and the number of those that were lost. Waits for the first one,
    /// without Python's lock, for at most `limit_s` seconds.
    fn take(&self, py: Python<'_>, limit_s: f64) -> PyResult<(Vec<Row>, u64)> {
        let limit = Duration::try_from_secs_f64(limit_s).map_err(|_| {
            PyValueError::new_err("limit_s must be a number of seconds, 0 or more.")
        })?;
        let (records, lost) = py.detach(|| {
            let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            records.take(limit, BATCH)
        });
        Ok((records.into_iter().map(row).collect(), lost))
    }

    /// Ends a `take` that waits.
    fn end(&self) {
        self.put.close();
    }
}

fn row(record: AccessRecord) -> Row {
    let kind = match record.kind {
        AccessKind::Request => "request",
        AccessKind::Opened => "opened",
        AccessKind::Closed => "closed",
    };
    // A clock that is before 1970 is not worth an error.
    let time = record.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (
        kind,
        time.as_secs_f64(),
        record.duration.as_secs_f64(),
        record
            .peer
            .address
            .map(|peer| (peer.ip().to_string(), peer.port())),
        record.peer.is_secure,
        record.method.into_string(),
        record.target.into_string(),
        record.version,
        record.status,
        record.bytes,
        String::from_utf8_lossy(&record.referer).into_owned(),
        String::from_utf8_lossy(&record.agent).into_owned(),
    )
}
