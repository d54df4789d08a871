//! The factory that makes coroutines tasks of the event loop.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The factory of the tasks of one loop.
pub(super) struct Tasks {
    /// `loop.create_task`, looked up once.
    create: Py<PyAny>,
    /// None before Python 3.12.
    eager: Option<Eager>,
}

/// Tasks that take their first step where they are created: most handlers have no other step, and then the loop never
/// schedules them.
struct Eager {
    /// `loop.get_task_factory`: a factory of the application applies to handlers, too.
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

    /// Event loop: makes a coroutine a task. If it takes its first step at once, an error is one of those that asyncio
    /// raises in the caller of a step.
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
