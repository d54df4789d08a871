//! `_core.keep_free_memory`, `_core.give_back_memory`: the allocator of a server's processes.

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

/// Returns what the allocator has free to the system. For a process that is about to fork.
#[pyfunction]
pub(super) fn give_back_memory(py: Python<'_>) {
    py.detach(heap::give_back);
}
