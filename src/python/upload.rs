//! `_core.Upload`: the body of a request that a handler reads piece by piece.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::HTTPError;
use super::events::{Event, EventBox};
use crate::http::upload::{Upload as Http, UploadChunk, UploadError};

/// Pieces of the body of a request. `fanbus.uploads` makes an iterator of it.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Upload {
    http: Http,
    events: EventBox,
}

impl Upload {
    pub(super) fn new(http: Http, events: EventBox) -> Self {
        Self { http, events }
    }
}

#[pymethods]
impl Upload {
    /// The next piece, b"" at the end, or None if there is nothing yet. `HTTPError` if the body is too large
    /// (413), too slow (408), or broken off (400).
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        given(py, self.http.take())
    }

    /// The next piece, b"" at the end. Waits for it on this thread.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        given(py, py.detach(|| self.http.wait()))
    }

    /// Has the event loop give the future a result when there is something to take.
    fn ring(&self, future: Py<PyAny>) {
        let events = EventBox::clone(&self.events);
        self.http.notify(Box::new(move || {
            events.post(|events| events.push(Event::Wake { future }));
        }));
    }
}

fn given(
    py: Python<'_>,
    taken: Result<UploadChunk, UploadError>,
) -> PyResult<Option<Bound<'_, PyBytes>>> {
    match taken {
        Ok(UploadChunk::Chunk(piece)) => Ok(Some(PyBytes::new(py, &piece))),
        Ok(UploadChunk::End) => Ok(Some(PyBytes::new(py, b""))),
        Ok(UploadChunk::Pending) => Ok(None),
        Err(UploadError::TooLarge) => Err(HTTPError::new_err((
            413,
            "The request's body is larger than this route allows.",
        ))),
        Err(UploadError::TooSlow) => Err(HTTPError::new_err((
            408,
            "The request's body did not arrive in time.",
        ))),
        Err(UploadError::Broken) => Err(HTTPError::new_err((
            400,
            "The request's body ended early, was malformed, or was read after its request had been answered.",
        ))),
    }
}

/// A future of the event loop has its result, unless it has one, or was cancelled.
pub(super) fn wake(py: Python<'_>, future: &Py<PyAny>) -> PyResult<()> {
    let future = future.bind(py);
    if !future.call_method0("done")?.extract::<bool>()? {
        future.call_method1("set_result", (py.None(),))?;
    }
    Ok(())
}

/// For the methods of a request whose body is read piece by piece.
pub(super) fn is_streamed() -> PyErr {
    PyRuntimeError::new_err(
        "This route reads its body piece by piece (stream_body=True): use request.stream(), or leave \
         stream_body out.",
    )
}
