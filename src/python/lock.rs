//! Python's global lock (the GIL): some interpreters have none, and threads then run side by side.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Does one thread at a time run Python, now? An extension that is not made for the other way brings
/// the lock back when it is imported.
pub(super) fn is_held_by_one(py: Python<'_>) -> PyResult<bool> {
    let sys = py.import("sys")?;
    // Before Python 3.13 there is no other way.
    let Some(ask) = sys.getattr_opt("_is_gil_enabled")? else {
        return Ok(true);
    };
    ask.call0()?.extract()
}

/// May another thread change an object while this one goes through it, without running any Python?
/// It does not change while the process lives.
pub(super) fn may_be_missing(py: Python<'_>) -> bool {
    static ANSWER: PyOnceLock<bool> = PyOnceLock::new();
    *ANSWER.get_or_init(py, || {
        let flags = py.import("sys").and_then(|sys| sys.getattr("abiflags"));
        let flags = flags.and_then(|flags| flags.extract::<String>());
        flags.is_ok_and(|flags| flags.contains('t'))
    })
}
