//! `_core.keep_free_memory`: the allocator of a worker process.

use pyo3::prelude::*;

use super::lock;
use crate::actors::heap;

/// Has the allocator keep free memory for the next large payload, unless the environment has settings of it.
/// For a process of the server's own that has no threads yet.
#[pyfunction]
pub(super) fn keep_free_memory(py: Python<'_>) -> PyResult<()> {
    heap::keep_free_memory(lock::is_held_by_one(py)?);
    Ok(())
}
