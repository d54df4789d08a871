//! `_core.Part`: the file that a multipart form has uploaded.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::errors::HTTPError;
use crate::http::form;

/// A file of a form: in memory while it is small, else on disk. `fanbus.Upload` reads it.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Part(Arc<form::Part>);

#[pymethods]
impl Part {
    /// The file name that the client sent.
    #[getter]
    fn filename(&self) -> &str {
        self.0.filename.as_deref().unwrap_or_default()
    }

    /// The `Content-Type` that the client sent.
    #[getter]
    fn content_type(&self) -> Option<&str> {
        self.0.content_type.as_deref()
    }

    /// The size in bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.0.size()
    }

    /// Is the file in memory, so that a read does not wait for a disk?
    #[getter]
    fn in_memory(&self) -> bool {
        self.0.in_memory().is_some()
    }

    /// Up to `most` bytes from `offset` on; fewer only at the end.
    fn read_at<'py>(
        &self,
        py: Python<'py>,
        offset: u64,
        most: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let read = match self.0.in_memory() {
            Some(_) => self.0.read_at(offset, most),
            None => py.detach(|| self.0.read_at(offset, most)),
        };
        Ok(PyBytes::new(py, &read?))
    }
}

/// A pair of a name and a value: a string, or a `Part` for a file.
pub(super) fn pair<'py>(py: Python<'py>, part: &Arc<form::Part>) -> PyResult<Bound<'py, PyTuple>> {
    if part.filename.is_some() {
        return (part.name.as_str(), Part(Arc::clone(part))).into_pyobject(py);
    }
    let bytes = part
        .in_memory()
        .expect("a field that is not a file is in memory");
    let text = std::str::from_utf8(bytes).map_err(|_| {
        HTTPError::new_err((
            400,
            format!("The form's field {:?} is not valid UTF-8.", part.name),
        ))
    })?;
    (part.name.as_str(), text).into_pyobject(py)
}
