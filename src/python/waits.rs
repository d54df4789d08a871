//! What a handler awaits of its WebSocket: the next message, and room to send.

use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::awaitables::{Waiter, stop_plain, thrown, yielded};
use super::websocket::WebSocket;

/// Awaited, it gives the next message.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Receive {
    ws: Py<WebSocket>,
    /// Made by `async for`, which ends quietly when the session does.
    iterates: bool,
}

impl Receive {
    pub(super) fn new(ws: Py<WebSocket>, iterates: bool) -> Self {
        Self { ws, iterates }
    }
}

#[pymethods]
impl Receive {
    fn __await__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<Waiter>> {
        let ws = self.ws.get();
        match ws.next() {
            Ok(Some(message)) => Err(stop_plain(message)),
            Ok(None) => ws.wait_for_message(py),
            Err(_) if self.iterates => Err(PyStopAsyncIteration::new_err(())),
            Err(error) => Err(error),
        }
    }

    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<Waiter>> {
        self.__next__(value.py())
    }

    #[pyo3(signature = (*error))]
    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn throw(&self, error: &Bound<'_, PyTuple>) -> PyResult<Py<Waiter>> {
        Err(thrown(error))
    }

    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn close(&self) {}
}

/// Awaited, it waits until the client has caught up.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Room {
    ws: Py<WebSocket>,
}

impl Room {
    pub(super) fn new(ws: Py<WebSocket>) -> Self {
        Self { ws }
    }
}

#[pymethods]
impl Room {
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
