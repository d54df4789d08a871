//! `_core.Upload`: the body of a request that a handler reads in chunks.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::HTTPError;
use super::events::{Event, EventBox};
use crate::http::upload::{Upload as Http, UploadChunk, UploadError};

/// The chunks of a request body. `fanbus.runtime.request_stream` makes an iterator of them.
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
    /// The next chunk, b"" at the end, or None if none has arrived yet. `HTTPError` if the body is too large (413), too
    /// slow (408), or incomplete (400).
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        chunk(py, self.http.take())
    }

    /// The next chunk, b"" at the end. Blocks this thread until it arrives.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        chunk(py, py.detach(|| self.http.wait()))
    }

    /// Makes the event loop set the future's result when there is a chunk to take.
    fn ring(&self, future: Py<PyAny>) {
        let events = EventBox::clone(&self.events);
        self.http.notify(Box::new(move || {
            events.post(|events| events.push(Event::Wake { future }));
        }));
    }
}

fn chunk(
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

/// Sets the result of a future of the event loop, unless it is done.
pub(super) fn wake(py: Python<'_>, future: &Py<PyAny>) -> PyResult<()> {
    let future = future.bind(py);
    if !future.call_method0("done")?.extract::<bool>()? {
        future.call_method1("set_result", (py.None(),))?;
    }
    Ok(())
}

/// The error of the methods that need the whole body, where it is read in chunks.
pub(super) fn is_streamed() -> PyErr {
    PyRuntimeError::new_err(
        "This route reads its body piece by piece (stream_body=True): use request.stream(), or leave \
         stream_body out.",
    )
}
