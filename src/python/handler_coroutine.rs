//! The coroutine that a handler's task runs: it wraps the handler's own coroutine, and sends the response where that
//! returns.
//!
//! asyncio calls the callbacks of a finished task in the *next* turn of its loop, behind every step of the current
//! turn. A handler that computes in one of these steps would delay responses that are ready. So a response does
//! not wait for the end of the task, unless the handler returns an awaitable other than a coroutine of Python.

#![allow(
    deprecated,
    reason = "pyo3 has moved PySendResult, and one version of it has only the old place"
)]

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyKeyboardInterrupt, PyStopIteration, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyNone, PySendResult, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit, intern};

use super::awaitables::yielded;
use super::dispatch::{HandlerRuntime, ResultTarget};

/// The wrapper of a handler's coroutine, which sends the response. asyncio and debuggers see the handler's coroutine.
#[pyclass(frozen, weakref, module = "fanbus._core")]
pub(super) struct HandlerCoroutine {
    coroutine: Py<PyAny>,
    runtime: Arc<HandlerRuntime>,
    state: Mutex<State>,
}

struct State {
    /// The running steps: those of the handler, then those that produce the chunks of a streamed response.
    steps: Py<PyIterator>,
    /// The receiver of the coroutine's result. None once it has the result.
    target: Option<ResultTarget>,
}

impl HandlerCoroutine {
    /// Wraps a coroutine of Python that has not started.
    pub(super) fn new(
        coroutine: &Bound<'_, PyAny>,
        runtime: Arc<HandlerRuntime>,
        target: ResultTarget,
    ) -> PyResult<Self> {
        let state = State {
            steps: steps_of(coroutine)?,
            target: Some(target),
        };
        Ok(Self {
            coroutine: coroutine.clone().unbind(),
            runtime,
            state: Mutex::new(state),
        })
    }

    /// Takes the receiver of the result, if it has no result yet.
    pub(super) fn take_target(&self) -> Option<ResultTarget> {
        self.with_state(|state| state.target.take())
    }

    /// Holds a reference to the task until the coroutine ends.
    pub(super) fn hold(&self, task: &Bound<'_, PyAny>) {
        self.with_state(|state| {
            if let Some(guard) = state.target.as_ref().and_then(ResultTarget::guard) {
                guard.hold(task.clone().unbind());
            }
        });
    }

    /// The lock is not held while Python runs, nor while a Python object is released.
    fn with_state<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn steps<'py>(&self, py: Python<'py>) -> Bound<'py, PyIterator> {
        self.with_state(|state| state.steps.clone_ref(py))
            .into_bound(py)
    }

    /// Takes the next step. Where the coroutine ends, sends the response and takes the first step of its stream.
    /// Returns the yielded object, or None at the end.
    fn step<'py>(&self, sent: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = sent.py();
        let mut stepped = self.steps(py).send(sent);
        loop {
            match stepped {
                Ok(PySendResult::Next(yielded)) => return Ok(Some(yielded)),
                Ok(PySendResult::Return(value)) => {
                    if !self.end(py, Ok(value))? {
                        return Ok(None);
                    }
                }
                Err(error) => return self.end_with(py, error),
            }
            stepped = self.steps(py).send(&PyNone::get(py));
        }
    }

    /// The coroutine has ended. True: another one is to run in its place.
    fn end(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> PyResult<bool> {
        let Some(target) = self.take_target() else {
            return Ok(false);
        };
        let Some(next) = self.runtime.end(py, target, result) else {
            return Ok(false);
        };
        let steps = steps_of(&next)?;
        let _old = self.with_state(|state| std::mem::replace(&mut state.steps, steps));
        Ok(true)
    }

    /// An error is handled once the client has a response. asyncio gets only the errors that mean more to it than a
    /// line in the log.
    fn end_with<T>(&self, py: Python<'_>, error: PyErr) -> PyResult<Option<T>> {
        let passed_on = is_passed_on(py, &error).then(|| error.clone_ref(py));
        self.end(py, Err(error))?;
        passed_on.map_or(Ok(None), Err)
    }
}

/// Does this exception end the task or the program, beyond being an error?
pub(super) fn is_passed_on(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<CancelledError>(py)
        || error.is_instance_of::<PySystemExit>(py)
        || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

fn steps_of(coroutine: &Bound<'_, PyAny>) -> PyResult<Py<PyIterator>> {
    let steps = coroutine.call_method0(intern!(coroutine.py(), "__await__"))?;
    Ok(steps.cast_into::<PyIterator>()?.unbind())
}

impl HandlerRuntime {
    /// Event loop: runs the awaitable that an asynchronous function has returned as a task. None: it has ended
    /// already.
    pub(super) fn run_as_task<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        awaitable: PyResult<Bound<'py, PyAny>>,
        target: ResultTarget,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let awaitable = match awaitable {
            Ok(awaitable) => awaitable,
            Err(error) => return self.end_without_task(py, target, error),
        };
        if !awaitable.get_type().is(&self.coroutine) {
            let task = match self.tasks.start(&awaitable) {
                Ok(task) => task,
                Err(error) => return self.end_without_task(py, target, error),
            };
            if let Some(guard) = target.guard() {
                guard.hold(task.clone().unbind());
            }
            let on_done = OnTaskDone::new(Arc::clone(self), target);
            task.call_method1(intern!(py, "add_done_callback"), (on_done,))?;
            return Ok(Some(task));
        }
        let running = Bound::new(
            py,
            HandlerCoroutine::new(&awaitable, Arc::clone(self), target)?,
        )?;
        match self.tasks.start(&running) {
            Ok(task) => {
                running.get().hold(&task);
                Ok(Some(task))
            }
            Err(error) => match running.get().take_target() {
                Some(target) => self.end_without_task(py, target, error),
                // The first step was taken at once, and asyncio raises such an exception in the caller.
                None if is_passed_on(py, &error) => Ok(None),
                None => Err(error),
            },
        }
    }

    fn end_without_task<T>(
        &self,
        py: Python<'_>,
        target: ResultTarget,
        error: PyErr,
    ) -> PyResult<Option<T>> {
        match self.end(py, target, Err(error)) {
            Some(next) => self.start_task(&next).map(|()| None),
            None => Ok(None),
        }
    }
}

#[pymethods]
impl HandlerCoroutine {
    fn __await__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.step(&PyNone::get(py))
    }

    fn send<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        yielded(self.step(value))
    }

    #[pyo3(signature = (*error))]
    fn throw<'py>(&self, error: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let py = error.py();
        let thrown = self.steps(py).call_method1(intern!(py, "throw"), error);
        let next = match thrown {
            Ok(yielded) => return Ok(yielded),
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                let value = error.value(py).getattr(intern!(py, "value"))?;
                if self.end(py, Ok(value))? {
                    self.step(&PyNone::get(py))?
                } else {
                    None
                }
            }
            Err(error) => self.end_with(py, error)?,
        };
        yielded(Ok(next))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let closed = self.steps(py).call_method0(intern!(py, "close"));
        self.end(py, Err(CancelledError::new_err(())))?;
        closed.map(drop)
    }

    /// The attributes of the handler's coroutine, such as its name and frame, for logs and debuggers.
    fn __getattr__<'py>(
        &self,
        py: Python<'py>,
        name: Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(name)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.coroutine.bind(py).repr().map(|text| text.to_string())
    }

    /// A handler that refers to its own task would else never be freed, nor would its variables.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.coroutine)?;
        // The thread that holds the lock holds a reference, too.
        let Ok(state) = self.state.try_lock() else {
            return Ok(());
        };
        visit.call(&state.steps)?;
        match &state.target {
            Some(target) => target.traverse(&visit),
            None => Ok(()),
        }
    }
}

/// The callback for the end of a task whose handler returned an awaitable other than a coroutine.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct OnTaskDone {
    runtime: Arc<HandlerRuntime>,
    target: Mutex<Option<ResultTarget>>,
}

impl OnTaskDone {
    pub(super) fn new(runtime: Arc<HandlerRuntime>, target: ResultTarget) -> Self {
        let target = Mutex::new(Some(target));
        Self { runtime, target }
    }
}

#[pymethods]
impl OnTaskDone {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let target = self
            .target
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(target) = target else {
            return Ok(());
        };
        let py = task.py();
        let result = task.call_method0(intern!(py, "result"));
        match self.runtime.end(py, target, result) {
            Some(next) => self.runtime.start_task(&next),
            None => Ok(()),
        }
    }
}
