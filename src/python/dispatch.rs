//! Handlers are started here, and what becomes of them is told here: a response, an admission, a
//! close, or an error that somebody gets to read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, intern};

use super::events::EventBox;
use super::lane_context::Job;
use super::request::{Request, RequestLinks};
use super::response::{self, PreparedResponse};
use super::router::{Endpoint, Endpoints};
use super::running_handlers::{HandlerGuard, RunningHandlers};
use super::stream::{ProducerContext, Streams};
use super::tasks::Tasks;
use super::websocket::WebSocket;
use super::worker_handle::WorkerHandle;
use crate::actors::session_key::SessionKey;
use crate::http::handler::Call;
use crate::http::replies::ReplyKey;
use crate::http::response::{Response, ResponseBody};

/// What handlers run in: the application's functions, the loop, and the way back to the worker.
pub(super) struct HandlerRuntime {
    pub worker: Arc<WorkerHandle>,
    pub endpoints: Arc<Endpoints>,
    pub event_loop: Py<PyAny>,
    pub tasks: Tasks,
    /// `types.CoroutineType`: what can be run inside of an [`HandlerCoroutine`].
    pub coroutine: Py<PyAny>,
    /// The context variables that synchronous handlers find, each a copy: those of the worker's start,
    /// as asynchronous ones find them.
    context: Py<PyAny>,
    pub callbacks: Callbacks,
    /// Clients see tracebacks.
    pub debug: bool,
    pub streams: Streams,
    pub events: EventBox,
    pub handlers: Arc<RunningHandlers>,
    sessions: Mutex<Sessions>,
}

/// Python's functions that hear of what handlers do.
pub(super) struct Callbacks {
    /// Gets what nobody caught.
    pub on_error: Py<PyAny>,
    /// Gets what is to be done after a response.
    pub after_response: Py<PyAny>,
}

/// Sessions whose memory is retained when the last one has left.
const MOST_KEPT: usize = 1024;

/// The WebSockets whose handlers run.
pub(super) type Sessions = HashMap<SessionKey, RunningSession, foldhash::fast::RandomState>;

/// A WebSocket whose handler runs.
pub(super) struct RunningSession {
    pub ws: Py<WebSocket>,
    /// None while its first step is taken where the task is made.
    pub task: Option<Py<PyAny>>,
}

/// What becomes of what a handler returns or raises.
pub(super) enum ResultTarget {
    /// It answers a request.
    Answer {
        reply: ReplyKey,
        label: String,
        request: Option<Py<Request>>,
        guard: HandlerGuard,
    },
    /// It says whether a client may come in.
    Admission {
        session: SessionKey,
        label: String,
        guard: Option<HandlerGuard>,
    },
    /// The session is over.
    Session {
        ws: Py<WebSocket>,
        guard: HandlerGuard,
    },
}

impl ResultTarget {
    /// What counts the handler as one that runs.
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

    /// Takes out a session whose handler has ended, or whose client has left.
    pub(super) fn take_session(&self, key: SessionKey) -> Option<RunningSession> {
        let mut running = self.sessions();
        let taken = running.remove(&key);
        if running.is_empty() && running.capacity() > MOST_KEPT {
            running.shrink_to(MOST_KEPT);
        }
        taken
    }

    /// Makes a coroutine a task of the loop.
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
        let (made, request) = self.call_http(py, call, reply, None);
        let target = ResultTarget::Answer {
            reply,
            label,
            request,
            guard,
        };
        self.run_as_task(py, made, target).map(drop)
    }

    /// Event loop: a handler has come to its end. A coroutine is returned if more is to be run: it makes the
    /// pieces of the response.
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
                self.go_on(py, &label, request.as_ref(), None);
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
                self.end_session(py, ws.get(), result);
                None
            }
        }
    }

    /// On a thread of a lane: does a job from its beginning to its end.
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
                self.go_on(py, &label, request.as_ref(), Some(&context));
            }
            Job::Admit { call, session } => self.run_admission(py, call, session),
            Job::Call(function) => {
                if let Err(error) = function.call0(py) {
                    self.report(py, "a function on a thread", error);
                }
            }
        }
    }

    /// The context variables of a synchronous handler, which nobody else sees it set.
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

    /// `context`: that of a synchronous handler. A coroutine is returned if the task of an asynchronous one
    /// has to run it.
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
            .and_then(|made| self.complete(py, made, label, context))
            .unwrap_or_else(|error| (self.error_response(py, label, error), None));
        self.worker.reply(reply, response);
        next
    }

    /// Hands over what the handler wants to be done after its response; it finds the context variables as
    /// the handler has left them.
    fn go_on(
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

    /// Begins to send what a handler streams.
    fn complete<'py>(
        &self,
        py: Python<'py>,
        made: PreparedResponse,
        label: &str,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Response, Option<Bound<'py, PyAny>>)> {
        let PreparedResponse {
            mut response,
            streamed,
        } = made;
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

    /// What the function gives, and the request, if it takes that.
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
        let subject = Request::new(py, request, endpoint, &values, links)
            .and_then(|request| Bound::new(py, request));
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
