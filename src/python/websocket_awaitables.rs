//! The awaitables of a WebSocket: the next message, and readiness to send.

#![allow(unsafe_code)] // pyo3 has no safe way to end an iterator with a value that makes no exception.

use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::awaitables::{Waiter, stop_plain, thrown, yielded};
use super::websocket::WebSocket;

/// The awaitable that returns the next message.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Receive {
    ws: Py<WebSocket>,
    /// Made by `async for`, which ends without an exception when the session is closed.
    iterates: bool,
}

/// The result of a step of an awaitable.
enum Step {
    Waits(Py<Waiter>),
    /// The end, with a message, which is neither a tuple nor an exception.
    Ends(Py<PyAny>),
}

impl Receive {
    pub(super) fn new(ws: Py<WebSocket>, iterates: bool) -> Self {
        Self { ws, iterates }
    }

    #[inline]
    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        let ws = self.ws.get();
        match ws.next() {
            Ok(Some(message)) => Ok(Step::Ends(message)),
            Ok(None) => ws.wait_for_message(py).map(Step::Waits),
            Err(_) if self.iterates => Err(PyStopAsyncIteration::new_err(())),
            Err(error) => Err(error),
        }
    }
}

/// Ends an awaitable with a value: call it before `__next__` returns None. Up to Python 3.11, the interpreter then takes
/// the value without creating the exception. pyo3 would create it: 600 instructions for each message.
fn end_with(value: &Bound<'_, PyAny>) {
    // SAFETY: this thread has the interpreter, as `value` shows; both objects are borrowed for the call alone, and
    // the error that it sets holds a reference of its own.
    unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) }
}

#[pymethods]
impl Receive {
    fn __await__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<Waiter>>> {
        match self.step(py)? {
            Step::Waits(waiter) => Ok(Some(waiter)),
            Step::Ends(message) => {
                end_with(message.bind(py));
                Ok(None)
            }
        }
    }

    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<Waiter>> {
        match self.step(value.py())? {
            Step::Waits(waiter) => Ok(waiter),
            Step::Ends(message) => Err(stop_plain(message)),
        }
    }

    #[pyo3(signature = (*error))]
    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn throw(&self, error: &Bound<'_, PyTuple>) -> PyResult<Py<Waiter>> {
        Err(thrown(error))
    }

    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn close(&self) {}
}

/// The awaitable that waits until the client has caught up.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct SendReady {
    ws: Py<WebSocket>,
}

impl SendReady {
    pub(super) fn new(ws: Py<WebSocket>) -> Self {
        Self { ws }
    }
}

#[pymethods]
impl SendReady {
    fn __await__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<Waiter>>> {
        self.ws.get().wait_for_room(py)
    }

    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<Waiter>> {
        yielded(self.__next__(value.py()))
    }

    #[pyo3(signature = (*error))]
    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn throw(&self, error: &Bound<'_, PyTuple>) -> PyResult<Py<Waiter>> {
        Err(thrown(error))
    }

    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn close(&self) {}
}
