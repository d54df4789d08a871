//! The functions that configure the allocator of a server's processes.

use pyo3::prelude::*;

use super::lock;
use crate::actors::heap;

/// Makes the allocator retain free memory for the next large payload, unless the environment configures it. Only for
/// a process of the server that has no threads yet.
#[pyfunction]
pub(super) fn keep_free_memory(py: Python<'_>) -> PyResult<()> {
    heap::keep_free_memory(lock::is_held_by_one(py)?);
    Ok(())
}

/// Returns the allocator's free memory to the system. For a process that is about to fork.
#[pyfunction]
pub(super) fn give_back_memory(py: Python<'_>) {
    py.detach(heap::give_back);
}
