//! How coroutines become tasks of the event loop.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Makes tasks of one loop.
pub(super) struct Tasks {
    /// `loop.create_task`, looked up once.
    create: Py<PyAny>,
    /// None before Python 3.12.
    eager: Option<Eager>,
}

/// Tasks that take their first step where they are made: most handlers have no other one, and then the loop
/// never hears of them.
struct Eager {
    /// `loop.get_task_factory`: what the application says about tasks holds for those of handlers.
    factory: Py<PyAny>,
    /// `asyncio.Task`
    class: Py<PyAny>,
    options: Py<PyDict>,
}

impl Tasks {
    pub(super) fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let eager = if event_loop.py().version_info() >= (3, 12) {
            Some(Eager::new(event_loop)?)
        } else {
            None
        };
        let create = event_loop.getattr("create_task")?.unbind();
        Ok(Self { create, eager })
    }

    /// Event loop: makes a coroutine a task. An error of a first step that was taken at once is one of
    /// those that asyncio hands on to whoever runs the step.
    pub(super) fn start<'py>(&self, coroutine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        if let Some(eager) = &self.eager
            && eager.factory.bind(py).call0()?.is_none()
        {
            let options = eager.options.bind(py);
            return eager.class.bind(py).call((coroutine,), Some(options));
        }
        self.create.bind(py).call1((coroutine,))
    }
}

impl Eager {
    fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let options = PyDict::new(py);
        options.set_item(intern!(py, "loop"), event_loop)?;
        options.set_item(intern!(py, "eager_start"), true)?;
        Ok(Self {
            factory: event_loop.getattr("get_task_factory")?.unbind(),
            class: py.import("asyncio")?.getattr("Task")?.unbind(),
            options: options.unbind(),
        })
    }
}
