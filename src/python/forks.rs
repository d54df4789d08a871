//! `_core.Withheld`: descriptors that a process which is forked from this one does not get. And
//! `_core.die_with_parent`, for one that was forked.

use std::io;
use std::os::fd::RawFd;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
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

/// Has the kernel send this process a signal when its parent dies, whatever killed that one.
#[pyfunction]
pub(super) fn die_with_parent(number: i32) -> PyResult<()> {
    let set = Signal::try_from(number).and_then(set_pdeathsig);
    Ok(set.map_err(io::Error::from)?)
}
