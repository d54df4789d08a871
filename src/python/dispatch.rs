//! The runtime that starts handlers, and passes on their results: a response, an admission, the close of a session, or
//! an error for the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};

use super::endpoint::{Endpoint, Endpoints};
use super::events::EventBox;
use super::lane_context::Job;
use super::request::{Request, RequestLinks};
use super::response::{self, PreparedResponse};
use super::running_handlers::{HandlerGuard, RunningHandlers};
use super::stream::{ProducerContext, Streams};
use super::tasks::Tasks;
use super::websocket::WebSocket;
use super::worker_handle::WorkerHandle;
use crate::actors::session_key::SessionKey;
use crate::http::handler::Call;
use crate::http::replies::ReplyKey;
use crate::http::response::{Response, ResponseBody};

/// The environment of handlers: the application's functions, the event loop, and the handle of the worker.
pub(super) struct HandlerRuntime {
    pub worker: Arc<WorkerHandle>,
    pub endpoints: Arc<Endpoints>,
    pub event_loop: Py<PyAny>,
    pub tasks: Tasks,
    /// `types.CoroutineType`: the objects that a `HandlerCoroutine` can run.
    pub coroutine: Py<PyAny>,
    /// The context variables of the worker's start. Each synchronous handler gets a copy, as each task does.
    context: Py<PyAny>,
    pub callbacks: Callbacks,
    /// Clients get tracebacks.
    pub debug: bool,
    pub streams: Streams,
    pub events: EventBox,
    pub handlers: Arc<RunningHandlers>,
    sessions: Mutex<Sessions>,
}

/// Python's functions that are called for handlers.
pub(super) struct Callbacks {
    /// Logs an error that no handler caught.
    pub on_error: Py<PyAny>,
    /// Calls functions after a response.
    pub after_response: Py<PyAny>,
}

/// Capacity for sessions that is retained when none is open.
const MAX_RETAINED: usize = 1024;

/// The WebSockets whose handlers run.
pub(super) type Sessions = HashMap<SessionKey, RunningSession, foldhash::fast::RandomState>;

/// A WebSocket whose handler runs.
pub(super) struct RunningSession {
    pub ws: Py<WebSocket>,
    /// None while the task is created, which may already take its first step.
    pub task: Option<Py<PyAny>>,
}

/// The receiver of the value that a handler returns, or of its error.
pub(super) enum ResultTarget {
    /// The value is the response to a request.
    Answer {
        reply: ReplyKey,
        label: String,
        request: Option<Py<Request>>,
        guard: HandlerGuard,
    },
    /// The value decides whether a client is admitted.
    Admission {
        session: SessionKey,
        label: String,
        guard: Option<HandlerGuard>,
    },
    /// The end of the handler closes the session.
    Session {
        ws: Py<WebSocket>,
        guard: HandlerGuard,
    },
}

impl ResultTarget {
    /// The guard that counts the handler as running.
    pub(super) fn guard(&self) -> Option<&HandlerGuard> {
        match self {
            Self::Answer { guard, .. } | Self::Session { guard, .. } => Some(guard),
            Self::Admission { guard, .. } => guard.as_ref(),
        }
    }

    /// For Python's garbage collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Answer { request, .. } => visit.call(request),
            Self::Admission { .. } => Ok(()),
            Self::Session { ws, .. } => visit.call(ws),
        }
    }
}

impl HandlerRuntime {
    pub(super) fn new(
        py: Python<'_>,
        worker: Arc<WorkerHandle>,
        endpoints: Arc<Endpoints>,
        event_loop: Py<PyAny>,
        callbacks: Callbacks,
        debug: bool,
        streams: Streams,
    ) -> PyResult<Arc<Self>> {
        let tasks = Tasks::new(event_loop.bind(py))?;
        let coroutine = py.import("types")?.getattr("CoroutineType")?.unbind();
        let context = py
            .import("contextvars")?
            .call_method0("copy_context")?
            .unbind();
        let sessions = Mutex::default();
        Ok(Arc::new(Self {
            worker,
            endpoints,
            event_loop,
            tasks,
            coroutine,
            context,
            callbacks,
            debug,
            events: EventBox::clone(&streams.events),
            streams,
            handlers: Arc::default(),
            sessions,
        }))
    }

    /// The sessions whose handlers run. The lock is not held while Python runs.
    pub(super) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a session whose handler has ended, or whose client has disconnected.
    pub(super) fn take_session(&self, key: SessionKey) -> Option<RunningSession> {
        let mut running = self.sessions();
        let taken = running.remove(&key);
        if running.is_empty() && running.capacity() > MAX_RETAINED {
            running.shrink_to(MAX_RETAINED);
        }
        taken
    }

    /// Runs a coroutine as a task of the event loop.
    pub(super) fn start_task(&self, coroutine: &Bound<'_, PyAny>) -> PyResult<()> {
        self.tasks.start(coroutine).map(drop)
    }

    /// Event loop: starts an asynchronous handler for a request.
    pub(super) fn start_request(
        self: &Arc<Self>,
        py: Python<'_>,
        call: Call,
        reply: ReplyKey,
    ) -> PyResult<()> {
        let (endpoint, label) = self.http(py, &call);
        let guard = self.handlers.begin(endpoint);
        let (awaitable, request) = self.call_http(py, call, reply, None);
        let target = ResultTarget::Answer {
            reply,
            label,
            request,
            guard,
        };
        self.run_as_task(py, awaitable, target).map(drop)
    }

    /// Event loop: a handler has ended. Returns a coroutine if the response is streamed: the task runs it to produce
    /// the chunks.
    pub(super) fn end<'py>(
        &self,
        py: Python<'py>,
        target: ResultTarget,
        result: PyResult<Bound<'py, PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        match target {
            ResultTarget::Answer {
                reply,
                label,
                request,
                guard: _handling,
            } => {
                let next = self.answer(py, reply, &label, result, None);
                self.schedule_after_response(py, &label, request.as_ref(), None);
                next
            }
            ResultTarget::Admission {
                session,
                label,
                guard: _handling,
            } => {
                self.admit(py, session, &label, result);
                None
            }
            ResultTarget::Session {
                ws,
                guard: _handling,
            } => {
                self.end_session(ws.bind(py), result);
                None
            }
        }
    }

    /// On a thread of a lane: does a whole job.
    pub(super) fn run(&self, py: Python<'_>, job: Job) {
        match job {
            Job::Request { call, reply } => {
                let (endpoint, label) = self.http(py, &call);
                let _handling = self.handlers.begin(endpoint);
                let context = match self.copy_context(py) {
                    Ok(context) => context,
                    Err(error) => {
                        self.answer(py, reply, &label, Err(error), None);
                        return;
                    }
                };
                let (result, request) = self.call_http(py, call, reply, Some(&context));
                self.answer(py, reply, &label, result, Some(&context));
                self.schedule_after_response(py, &label, request.as_ref(), Some(&context));
            }
            Job::Admit { call, session } => self.run_admission(py, call, session),
            Job::Call(function) => {
                if let Err(error) = function.call0(py) {
                    self.report(py, "a function on a thread", error);
                }
            }
        }
    }

    /// A copy of the context variables for one synchronous handler: no other code sees the values that it sets.
    pub(super) fn copy_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.context.bind(py).call_method0(intern!(py, "copy"))
    }

    fn http(&self, py: Python<'_>, call: &Call) -> (&Endpoint, String) {
        let endpoint = &self.endpoints.http[call.endpoint.0 as usize];
        let label = match &call.request {
            Some(request) => {
                let path = request.head.path().to_owned();
                format!("{} {path}", request.method)
            }
            None => endpoint.label(py),
        };
        (endpoint, label)
    }

    /// Sends the response. `context` is that of a synchronous handler. Returns a coroutine that the task of an
    /// asynchronous handler has to run.
    fn answer<'py>(
        &self,
        py: Python<'py>,
        reply: ReplyKey,
        label: &str,
        result: PyResult<Bound<'py, PyAny>>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        let (response, next) = result
            .and_then(|value| response::from_python(&value, &self.events))
            .and_then(|prepared| self.complete(py, prepared, label, context))
            .unwrap_or_else(|error| (self.error_response(py, label, error), None));
        self.worker.reply(reply, response);
        next
    }

    /// Schedules the functions that the handler wants called after its response. They run with the context variables
    /// of the handler.
    fn schedule_after_response(
        &self,
        py: Python<'_>,
        label: &str,
        request: Option<&Py<Request>>,
        context: Option<&Bound<'_, PyAny>>,
    ) {
        let Some(request) = request else {
            return;
        };
        let tasks = request.get().take_after();
        if tasks.is_empty() {
            return;
        }
        if let Err(error) = self
            .callbacks
            .after_response
            .call1(py, (label, tasks, context))
        {
            self.report(py, label, error);
        }
    }

    /// Starts the stream of a streamed response.
    fn complete<'py>(
        &self,
        py: Python<'py>,
        prepared: PreparedResponse,
        label: &str,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Response, Option<Bound<'py, PyAny>>)> {
        let PreparedResponse {
            mut response,
            streamed,
        } = prepared;
        let Some(streamed) = streamed else {
            return Ok((response, None));
        };
        let maker = ProducerContext {
            event_loop: &self.event_loop,
            on_error: &self.callbacks.on_error,
            label,
            context,
        };
        let started = self.streams.start(py, &streamed, maker)?;
        response.body = ResponseBody::Stream(started.body);
        response.trailers = started.trailers;
        Ok((response, started.coroutine))
    }

    /// Calls the function of a request. Returns its value, and the request object if the function takes one.
    fn call_http<'py>(
        &self,
        py: Python<'py>,
        call: Call,
        reply: ReplyKey,
        context: Option<&Bound<'py, PyAny>>,
    ) -> (PyResult<Bound<'py, PyAny>>, Option<Py<Request>>) {
        let Call {
            endpoint,
            values,
            request,
        } = call;
        let endpoint = &self.endpoints.http[endpoint.0 as usize];
        let Some(request) = request else {
            return (endpoint.call(py, &values, None, context), None);
        };
        let links = RequestLinks {
            events: &self.events,
            client: Some((&self.worker, reply)),
        };
        let subject = Request::new(py, request, endpoint, &values, links);
        match subject {
            Ok(subject) => {
                let request = subject.clone().unbind();
                let result = endpoint.call(py, &values, Some(subject.into_any()), context);
                (result, Some(request))
            }
            Err(error) => (Err(error), None),
        }
    }
}
