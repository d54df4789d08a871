//! `_core.Bus`: a process's membership in a bus.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::ipc::{self, BusOptions};

/// Membership of this process in a named bus. A copy inherited by fork is inert.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Bus {
    name: String,
    /// None once closed.
    bus: Mutex<Option<ipc::Bus>>,
}

impl Bus {
    /// The bus, unless it has been closed.
    pub(super) fn get(&self) -> PyResult<ipc::Bus> {
        let bus = self.bus.lock().unwrap_or_else(PoisonError::into_inner);
        bus.clone()
            .ok_or_else(|| PyRuntimeError::new_err("This bus has been closed."))
    }
}

#[pymethods]
impl Bus {
    /// Creates the bus, or joins the one of that name. `OSError`, a sentence, if it cannot.
    #[staticmethod]
    #[pyo3(signature = (name, *, ring_bytes=None))]
    fn open(name: &str, ring_bytes: Option<usize>) -> PyResult<Self> {
        let mut options = BusOptions::default();
        if let Some(ring_bytes) = ring_bytes {
            if !ring_bytes.is_power_of_two() {
                return Err(PyValueError::new_err("ring_bytes must be a power of two."));
            }
            options.ring_bytes = ring_bytes;
        }
        let bus = ipc::Bus::open(name, &options)
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            bus: Mutex::new(Some(bus)),
        })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Cleans up after members that died, wakes all sleepers; returns how many had died.
    fn reap(&self) -> PyResult<usize> {
        Ok(self.get()?.reap())
    }

    /// Unlinks the segment's name: a clean stop.
    fn remove(&self) -> PyResult<()> {
        self.get()?
            .remove()
            .map_err(|error| PyOSError::new_err(error.to_string()))
    }

    /// Leaves the bus. Twice is allowed.
    fn close(&self) {
        self.bus
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    fn __repr__(&self) -> String {
        format!("<Bus {:?}>", self.name)
    }
}
