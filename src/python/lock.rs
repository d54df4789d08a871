//! The questions about Python's global lock (the GIL). Free-threaded interpreters have none: their threads run in
//! parallel.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Does only one thread at a time run Python now? An extension without support for free threading enables the lock
/// when it is imported.
pub(super) fn is_held_by_one(py: Python<'_>) -> PyResult<bool> {
    let sys = py.import("sys")?;
    // Before Python 3.13 there is always a lock.
    let Some(ask) = sys.getattr_opt("_is_gil_enabled")? else {
        return Ok(true);
    };
    ask.call0()?.extract()
}

/// May another thread change an object while this one iterates over it, without running any Python? The answer is the
/// same for the life of the process.
pub(super) fn may_be_missing(py: Python<'_>) -> bool {
    static ANSWER: PyOnceLock<bool> = PyOnceLock::new();
    *ANSWER.get_or_init(py, || {
        let flags = py.import("sys").and_then(|sys| sys.getattr("abiflags"));
        let flags = flags.and_then(|flags| flags.extract::<String>());
        flags.is_ok_and(|flags| flags.contains('t'))
    })
}
