//! `_core.Withheld`: descriptors that a process which is forked from this one does not get.

use std::os::fd::RawFd;

use pyo3::prelude::*;

use crate::actors::forks;

/// As long as this is there, forked processes find `/dev/null` in place of the descriptors.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Withheld(#[expect(dead_code, reason = "its drop ends it")] forks::Withheld);

#[pymethods]
impl Withheld {
    #[new]
    fn new(descriptors: Vec<RawFd>) -> PyResult<Self> {
        Ok(Self(forks::Withheld::new(descriptors)?))
    }
}

/// The sockets, pipes and event descriptors that this process has open, with what each leads to.
#[pyfunction]
pub(super) fn open_descriptors() -> PyResult<Vec<(RawFd, String)>> {
    Ok(forks::open_now()?)
}
