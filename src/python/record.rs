//! `_core.Record`: the message that Python reads from the bus, with its topic and offset.

use pyo3::prelude::*;

/// A message as it was published.
#[pyclass(frozen, module = "fanbus")]
pub(super) struct Record {
    topic: Py<PyAny>,
    message: Py<PyAny>,
    #[pyo3(get)]
    offset: u64,
}

impl Record {
    pub(super) fn new(topic: Py<PyAny>, message: Py<PyAny>, offset: u64) -> Self {
        Self {
            topic,
            message,
            offset,
        }
    }
}

#[pymethods]
impl Record {
    #[getter]
    fn topic(&self, py: Python<'_>) -> Py<PyAny> {
        self.topic.clone_ref(py)
    }

    #[getter]
    fn message(&self, py: Python<'_>) -> Py<PyAny> {
        self.message.clone_ref(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "<Record {} {}: {}>",
            self.offset,
            self.topic.bind(py).repr()?,
            self.message.bind(py).repr()?
        ))
    }
}
