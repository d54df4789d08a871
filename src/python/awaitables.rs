//! The awaitables that handlers await.
//!
//! An awaitable returns at once when it can, so a coroutine whose message has arrived is never suspended. When it
//! cannot, it yields a [`Waiter`], which has the protocol that asyncio's tasks expect of a future. The task of a
//! handler is asyncio's own, so cancellation, timeouts, context variables and `current_task` work as usual. But the
//! drain resumes it by a direct call, without a trip through the loop.
//!
//! An awaitable has `send`, `throw` and `close`, so asyncio takes it for a coroutine, too:
//! `asyncio.create_task(ws.receive())` works as usual.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::asyncio::{CancelledError, InvalidStateError};
use pyo3::exceptions::{
    PyBaseException, PyKeyboardInterrupt, PyRuntimeError, PyStopIteration, PySystemExit,
    PyTypeError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTraceback, PyTuple};

/// The awaitable that returns its value at once.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Ready(Option<Py<PyAny>>);

impl Ready {
    /// The result of calls that need not be awaited: one object for all.
    pub(super) fn nothing(py: Python<'_>) -> PyResult<Py<Self>> {
        static NOTHING: PyOnceLock<Py<Ready>> = PyOnceLock::new();
        let made = NOTHING.get_or_try_init(py, || Py::new(py, Self(None)))?;
        Ok(made.clone_ref(py))
    }

    pub(super) fn value(value: Py<PyAny>) -> Self {
        Self(Some(value))
    }
}

#[pymethods]
impl Ready {
    fn __await__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match &self.0 {
            None => Ok(None),
            Some(value) => Err(stop(py, value.clone_ref(py))),
        }
    }

    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        yielded(self.__next__(value.py()))
    }

    #[pyo3(signature = (*error))]
    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn throw(&self, error: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        Err(thrown(error))
    }

    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn close(&self) {}
}

/// The result of `send`, made of the result of `__next__`: `send` raises `StopIteration` at the end.
pub(super) fn yielded<T>(next: PyResult<Option<T>>) -> PyResult<T> {
    next?.ok_or_else(|| PyStopIteration::new_err(()))
}

/// The exception that `throw` raises in an awaitable: given as an exception, or as a class with its arguments.
pub(super) fn thrown(error: &Bound<'_, PyTuple>) -> PyErr {
    let given = |at| error.get_item(at).ok().filter(|it| !it.is_none());
    let made = match (given(0), given(1)) {
        (_, Some(value)) if value.is_instance_of::<PyBaseException>() => PyErr::from_value(value),
        (Some(class), Some(value)) => match class.call1((value,)) {
            Ok(value) => PyErr::from_value(value),
            Err(error) => error,
        },
        (Some(error), None) => PyErr::from_value(error),
        (None, _) => PyTypeError::new_err("throw takes an exception."),
    };
    if let Some(Ok(traceback)) = given(2).map(Bound::cast_into::<PyTraceback>) {
        // Not by `PyErr::set_traceback`, which the pyo3 of free-threaded builds does not have. An exception that
        // takes no traceback is raised without it.
        let _ = made.value(error.py()).setattr("__traceback__", traceback);
    }
    made
}

/// Ends an awaitable with a value.
fn stop(py: Python<'_>, value: Py<PyAny>) -> PyErr {
    if value.bind(py).is_instance_of::<PyTuple>()
        || value.bind(py).is_instance_of::<PyBaseException>()
    {
        return PyStopIteration::new_err((value,));
    }
    stop_plain(value)
}

/// Ends an awaitable with a value that is neither a tuple nor an exception.
pub(super) fn stop_plain(value: Py<PyAny>) -> PyErr {
    PyStopIteration::new_err(value)
}

/// The object that an awaitable yields while it waits: a future, as an asyncio task sees it.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Waiter {
    event_loop: Py<PyAny>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// asyncio's mark of an object that `await` has yielded.
    blocking: bool,
    /// The callback that resumes the task, and its context.
    resume: Option<(Py<PyAny>, Option<Py<PyAny>>)>,
    /// The task was cancelled while it waited, with this message.
    cancelled: Option<Py<PyAny>>,
}

impl Waiter {
    pub(super) fn new(event_loop: Py<PyAny>) -> Self {
        Self {
            event_loop,
            state: Mutex::default(),
        }
    }

    /// Called before it is yielded. `RuntimeError` if another task waits already.
    pub(super) fn begin(&self) -> PyResult<()> {
        let mut state = self.lock();
        if state.resume.is_some() {
            return Err(PyRuntimeError::new_err(
                "Another task already waits for a message of this WebSocket. \
                 Receive in one task, and hand messages on from there.",
            ));
        }
        state.blocking = true;
        let _old = state.cancelled.take();
        drop(state);
        Ok(())
    }

    /// Was its task cancelled, and not resumed since? Then no other task may wait on it.
    pub(super) fn owes_cancellation(&self) -> bool {
        self.lock().cancelled.is_some()
    }

    /// Resumes the waiting task, if any, at once. Only for the event loop.
    pub(super) fn wake(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let resume = this.get().lock().resume.take();
        let resumed = match resume {
            None => return Ok(()),
            Some((callback, None)) => callback.call1(py, (this,)),
            Some((callback, Some(context))) => {
                context.call_method1(py, intern!(py, "run"), (callback, this))
            }
        };
        match resumed {
            // A task that ends with one of these raises it in its caller, too.
            Err(error)
                if error.is_instance_of::<PySystemExit>(py)
                    || error.is_instance_of::<PyKeyboardInterrupt>(py) =>
            {
                Ok(())
            }
            resumed => resumed.map(drop),
        }
    }

    /// The lock is not held while Python runs, nor while a Python object is released, which may run Python.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Waiter {
    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> bool {
        self.lock().blocking
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        self.lock().blocking = blocking;
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    #[pyo3(signature = (callback, *, context=None))]
    fn add_done_callback(&self, callback: Py<PyAny>, context: Option<Py<PyAny>>) {
        let _old = self.lock().resume.replace((callback, context));
    }

    fn remove_done_callback(&self, callback: &Bound<'_, PyAny>) -> PyResult<usize> {
        let resume = self.lock().resume.take();
        match resume {
            Some((known, _)) if known.bind(callback.py()).eq(callback)? => Ok(1),
            other => {
                let _none = mem::replace(&mut self.lock().resume, other);
                Ok(0)
            }
        }
    }

    /// The task is cancelled: it is resumed by the loop, with a `CancelledError`.
    #[pyo3(signature = (msg=None))]
    fn cancel(this: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let py = this.py();
        let resume = {
            let mut state = this.get().lock();
            let Some(resume) = state.resume.take() else {
                return Ok(false);
            };
            state.cancelled = Some(msg.unwrap_or_else(|| py.None()));
            resume
        };
        let (callback, context) = resume;
        let options = PyDict::new(py);
        if let Some(context) = context {
            options.set_item("context", context)?;
        }
        let arguments = PyTuple::new(py, [callback.bind(py), this.as_any()])?;
        this.get()
            .event_loop
            .bind(py)
            .call_method("call_soon", arguments, Some(&options))?;
        Ok(true)
    }

    fn cancelled(&self) -> bool {
        self.lock().cancelled.is_some()
    }

    fn done(&self) -> bool {
        let state = self.lock();
        state.cancelled.is_some() || state.resume.is_none()
    }

    /// Called by the resumed task. The awaitable itself fetches the value.
    fn result(&self, py: Python<'_>) -> PyResult<()> {
        let cancelled = self.lock().cancelled.take();
        match cancelled {
            None => Ok(()),
            Some(message) if message.is_none(py) => Err(CancelledError::new_err(())),
            Some(message) => Err(CancelledError::new_err((message,))),
        }
    }

    #[expect(clippy::unused_self, reason = "a method in Python")]
    fn exception(&self) -> PyResult<Option<Py<PyAny>>> {
        Err(InvalidStateError::new_err(
            "A waiter has no exception of its own.",
        ))
    }
}
