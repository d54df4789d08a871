//! `_core.Withheld`: the guard that withholds descriptors from forked processes; and `_core.die_with_parent` for a
//! forked process.

use std::io;
use std::os::fd::RawFd;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use pyo3::prelude::*;

use crate::actors::forks;

/// As long as this object exists, forked processes have `/dev/null` in place of the descriptors.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Withheld(#[expect(dead_code, reason = "its drop ends it")] forks::Withheld);

#[pymethods]
impl Withheld {
    #[new]
    fn new(descriptors: Vec<RawFd>) -> PyResult<Self> {
        Ok(Self(forks::Withheld::new(descriptors)?))
    }
}

/// The sockets, pipes and event descriptors that this process has open, each with its target.
#[pyfunction]
pub(super) fn open_descriptors() -> PyResult<Vec<(RawFd, String)>> {
    Ok(forks::open_now()?)
}

/// Makes the kernel send this process a signal when its parent dies, for whatever reason.
#[pyfunction]
pub(super) fn die_with_parent(number: i32) -> PyResult<()> {
    let set = Signal::try_from(number).and_then(set_pdeathsig);
    Ok(set.map_err(io::Error::from)?)
}
