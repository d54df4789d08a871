//! Handlers are started here, and what becomes of them is told here: a response, an admission, a
//! close, or an error that somebody gets to read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::http::StatusCode;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::prelude::*;

use super::errors::{Refused, WebSocketClosed};
use super::handler::EventBox;
use super::remote::Remote;
use super::request::Request;
use super::response::{self, Made};
use super::router::{Endpoint, Endpoints};
use super::stream::Streams;
use super::threads::Job;
use super::under_way::{Handling, UnderWay};
use super::websocket::WebSocket;
use crate::actors::hub::{Command, Rejection};
use crate::actors::session::SessionKey;
use crate::http::handler::Call;
use crate::http::replies::ReplyKey;
use crate::http::response::{Body, Response};
use crate::http::router::EndpointId;

/// What handlers run in: the application's functions, the loop, and the way back to the worker.
pub(super) struct Host {
    pub remote: Arc<Remote>,
    pub endpoints: Arc<Endpoints>,
    pub event_loop: Py<PyAny>,
    /// `loop.create_task`, looked up once.
    create_task: Py<PyAny>,
    /// The context variables that synchronous handlers find, each a copy: those of the worker's start,
    /// as asynchronous ones find them.
    context: Py<PyAny>,
    told: Told,
    /// Clients see tracebacks.
    debug: bool,
    pub streams: Streams,
    events: EventBox,
    pub under_way: Arc<UnderWay>,
    running: Mutex<Sessions>,
}

/// Python's functions that hear of what handlers do.
pub(super) struct Told {
    /// Gets what nobody caught.
    pub on_error: Py<PyAny>,
    /// Gets what is to be done after a response.
    pub after: Py<PyAny>,
}

/// Sessions whose memory is retained when the last one has left.
const MOST_KEPT: usize = 1024;

/// The WebSockets whose handlers run.
pub(super) type Sessions = HashMap<SessionKey, Running, foldhash::fast::RandomState>;

/// A WebSocket whose handler runs.
pub(super) struct Running {
    pub ws: Py<WebSocket>,
    pub task: Py<PyAny>,
}

impl Host {
    pub(super) fn new(
        py: Python<'_>,
        remote: Arc<Remote>,
        endpoints: Arc<Endpoints>,
        event_loop: Py<PyAny>,
        told: Told,
        debug: bool,
        events: EventBox,
    ) -> PyResult<Arc<Self>> {
        let create_task = event_loop.getattr(py, "create_task")?;
        let context = py
            .import("contextvars")?
            .call_method0("copy_context")?
            .unbind();
        let running = Mutex::default();
        Ok(Arc::new(Self {
            remote,
            endpoints,
            event_loop,
            create_task,
            context,
            told,
            debug,
            streams: Streams::new(EventBox::clone(&events)),
            events,
            under_way: Arc::default(),
            running,
        }))
    }

    /// The sessions whose handlers run. The lock is not held while Python runs.
    pub(super) fn running(&self) -> MutexGuard<'_, Sessions> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes out a session whose handler has ended, or whose client has left.
    pub(super) fn take_running(&self, key: SessionKey) -> Option<Running> {
        let mut running = self.running();
        let taken = running.remove(&key);
        if running.is_empty() && running.capacity() > MOST_KEPT {
            running.shrink_to(MOST_KEPT);
        }
        taken
    }

    /// Makes a coroutine a task of the loop.
    pub(super) fn start_task<'py>(
        &self,
        py: Python<'py>,
        coroutine: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.create_task.bind(py).call1((coroutine,))
    }

    /// Event loop: starts an asynchronous handler for a request.
    pub(super) fn start_request(
        self: &Arc<Self>,
        py: Python<'_>,
        call: Call,
        reply: ReplyKey,
    ) -> PyResult<()> {
        let (endpoint, label) = self.http(py, &call);
        let handling = self.under_way.begin(endpoint);
        let (made, request) = call_http(py, endpoint, call, None, &self.events);
        let started = made.and_then(|made| self.start_task(py, &made));
        match started {
            Ok(task) => {
                let done = Answered {
                    reply,
                    host: Arc::clone(self),
                    label,
                    request,
                    handling: Mutex::new(Some(handling)),
                };
                task.call_method1("add_done_callback", (done,)).map(drop)
            }
            Err(error) => {
                self.answer(py, reply, &label, Err(error));
                self.go_on(py, &label, request.as_ref());
                Ok(())
            }
        }
    }

    /// Event loop: asks an asynchronous function whether a client may come in.
    pub(super) fn start_admission(
        self: &Arc<Self>,
        py: Python<'_>,
        call: Call,
        session: SessionKey,
    ) -> PyResult<()> {
        let handling = self.endpoints.websocket(call.endpoint);
        let handling = handling.map(|endpoint| self.under_way.begin(endpoint));
        let (started, label) = self.call_admission(py, call, None);
        match started.and_then(|made| self.start_task(py, &made)) {
            Ok(task) => {
                let done = Admitted {
                    session,
                    host: Arc::clone(self),
                    label,
                    handling: Mutex::new(handling),
                };
                task.call_method1("add_done_callback", (done,)).map(drop)
            }
            Err(error) => {
                self.admit(py, session, &label, Err(error));
                Ok(())
            }
        }
    }

    /// Handler thread: does a job from its beginning to its end.
    pub(super) fn run(&self, py: Python<'_>, job: Job) {
        match job {
            Job::Request { call, reply } => {
                let (endpoint, label) = self.http(py, &call);
                let _handling = self.under_way.begin(endpoint);
                let (result, request) =
                    call_http(py, endpoint, call, Some(&self.context), &self.events);
                self.answer(py, reply, &label, result);
                self.go_on(py, &label, request.as_ref());
            }
            Job::Admit { call, session } => {
                let endpoint = self.endpoints.websocket(call.endpoint);
                let _handling = endpoint.map(|endpoint| self.under_way.begin(endpoint));
                let (result, label) = self.call_admission(py, call, Some(&self.context));
                self.admit(py, session, &label, result);
            }
        }
    }

    /// Tells the application's log of an error that nobody caught.
    pub(super) fn report(&self, py: Python<'_>, place: &str, error: PyErr) {
        let value = error.into_value(py);
        if let Err(error) = self.told.on_error.call1(py, (place, value)) {
            // The log itself failed: Python's last resort still prints it.
            error.write_unraisable(py, None);
        }
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

    fn call_admission<'py>(
        &self,
        py: Python<'py>,
        call: Call,
        context: Option<&Py<PyAny>>,
    ) -> (PyResult<Bound<'py, PyAny>>, String) {
        let endpoint = self
            .endpoints
            .websocket(call.endpoint)
            .expect("only asked where it is set");
        let Call {
            values, request, ..
        } = call;
        let request = request.expect("a handshake carries its request");
        let path = request.head.path().to_owned();
        let label = format!("the handshake of {path}");
        let subject = Request::new(py, request, endpoint, &values, &self.events)
            .and_then(|request| Bound::new(py, request));
        let result = subject
            .and_then(|subject| endpoint.call(py, &values, Some(subject.into_any()), context));
        (result, label)
    }

    fn answer(
        &self,
        py: Python<'_>,
        reply: ReplyKey,
        label: &str,
        result: PyResult<Bound<'_, PyAny>>,
    ) {
        let response = result
            .and_then(|value| response::from_python(&value))
            .and_then(|made| self.complete(py, made, label))
            .unwrap_or_else(|error| self.error_response(py, label, error));
        self.remote.reply(reply, response);
    }

    /// Hands over what the handler wants to be done after its response.
    fn go_on(&self, py: Python<'_>, label: &str, request: Option<&Py<Request>>) {
        let Some(request) = request else {
            return;
        };
        let tasks = request.get().take_after();
        if tasks.is_empty() {
            return;
        }
        if let Err(error) = self.told.after.call1(py, (label, tasks)) {
            self.report(py, label, error);
        }
    }

    /// Begins to send what a handler streams.
    fn complete(&self, py: Python<'_>, made: Made, label: &str) -> PyResult<Response> {
        let Made {
            mut response,
            iterator,
        } = made;
        if let Some(iterator) = iterator {
            let (on_loop, on_error) = (&self.event_loop, &self.told.on_error);
            let flow = self
                .streams
                .start(iterator.bind(py), on_loop, on_error, label)?;
            response.body = Body::Flow(flow);
        }
        Ok(response)
    }

    fn error_response(&self, py: Python<'_>, label: &str, error: PyErr) -> Response {
        if let Some(refused) = Refused::from_error(py, &error) {
            return refused.into_response();
        }
        if error.is_instance_of::<CancelledError>(py) {
            let sentence = "The request was cancelled.";
            return Response::sentence(StatusCode::SERVICE_UNAVAILABLE, sentence);
        }
        let traceback = self.debug.then(|| traceback(py, &error)).flatten();
        self.report(py, label, error);
        let text = traceback.unwrap_or_else(|| "Internal Server Error".to_owned());
        Response::sentence(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    fn admit(
        &self,
        py: Python<'_>,
        session: SessionKey,
        label: &str,
        result: PyResult<Bound<'_, PyAny>>,
    ) {
        let rejection = match result {
            Ok(verdict) if verdict.is(&*pyo3::types::PyBool::new(py, false)) => {
                let sentence = "The application refused the connection.";
                Some(Rejection::new(403, sentence))
            }
            Ok(_) => None,
            Err(error) => Some(self.rejection(py, label, error)),
        };
        self.remote.order(match rejection {
            None => Command::Accept {
                session,
                subprotocol: None,
            },
            Some(rejection) => Command::Reject {
                session,
                rejection: Box::new(rejection),
            },
        });
    }

    /// What a client is told whose handshake ended in an error.
    pub(super) fn rejection(&self, py: Python<'_>, label: &str, error: PyErr) -> Rejection {
        if let Some(refused) = Refused::from_error(py, &error) {
            return refused.into_rejection();
        }
        self.report(py, label, error);
        Rejection::new(500, "The application failed.")
    }
}

/// What the function gives, and the request, if it takes that.
fn call_http<'py>(
    py: Python<'py>,
    endpoint: &Endpoint,
    call: Call,
    context: Option<&Py<PyAny>>,
    events: &EventBox,
) -> (PyResult<Bound<'py, PyAny>>, Option<Py<Request>>) {
    let Call {
        values, request, ..
    } = call;
    let Some(request) = request else {
        return (endpoint.call(py, &values, None, context), None);
    };
    let subject = Request::new(py, request, endpoint, &values, events)
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

fn traceback(py: Python<'_>, error: &PyErr) -> Option<String> {
    let format = py
        .import("traceback")
        .ok()?
        .getattr("format_exception")
        .ok()?;
    // Before Python 3.12 only `into_value` puts the traceback into the exception.
    let value = error.clone_ref(py).into_value(py);
    let lines: Vec<String> = format.call1((value,)).ok()?.extract().ok()?;
    Some(lines.concat())
}

impl Endpoints {
    /// Does the function behind this endpoint run sessions, or only admit clients?
    pub(super) fn runs_sessions(&self, id: EndpointId) -> bool {
        self.websocket(id)
            .is_some_and(|endpoint| endpoint.runs_sessions)
    }

    /// The function behind a WebSocket endpoint, if it has one.
    pub(super) fn websocket(&self, id: EndpointId) -> Option<&Endpoint> {
        self.websockets[id.0 as usize].as_ref()
    }
}

/// The task of a request's handler is done.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Answered {
    reply: ReplyKey,
    host: Arc<Host>,
    label: String,
    request: Option<Py<Request>>,
    /// Until the answer is given.
    handling: Mutex<Option<Handling>>,
}

#[pymethods]
impl Answered {
    fn __call__(&self, task: &Bound<'_, PyAny>) {
        let _ended = end(&self.handling);
        let result = task.call_method0("result");
        let (host, py) = (&self.host, task.py());
        host.answer(py, self.reply, &self.label, result);
        host.go_on(py, &self.label, self.request.as_ref());
    }
}

/// The task of an admission is done.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Admitted {
    session: SessionKey,
    host: Arc<Host>,
    label: String,
    handling: Mutex<Option<Handling>>,
}

#[pymethods]
impl Admitted {
    fn __call__(&self, task: &Bound<'_, PyAny>) {
        let _ended = end(&self.handling);
        let result = task.call_method0("result");
        self.host
            .admit(task.py(), self.session, &self.label, result);
    }
}

/// The task of a WebSocket's handler is done.
#[pyclass(frozen, module = "fanbus._core")]
pub(super) struct Ended {
    ws: Py<WebSocket>,
    host: Arc<Host>,
    handling: Mutex<Option<Handling>>,
}

impl Ended {
    pub(super) fn new(ws: Py<WebSocket>, host: Arc<Host>, handling: Handling) -> Self {
        let handling = Mutex::new(Some(handling));
        Self { ws, host, handling }
    }
}

/// Dropped by the caller when it has done what the end asks for: the task, which has this as a
/// callback, may live on.
fn end(handling: &Mutex<Option<Handling>>) -> Option<Handling> {
    handling
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

#[pymethods]
impl Ended {
    fn __call__(&self, task: &Bound<'_, PyAny>) {
        let _ended = end(&self.handling);
        let ws = self.ws.get();
        let _running = self.host.take_running(ws.key());
        match task.call_method0("result") {
            Ok(_) => ws.finish(1000, "", None),
            Err(error) => self.failed(task.py(), ws, error),
        }
    }
}

impl Ended {
    fn failed(&self, py: Python<'_>, ws: &WebSocket, error: PyErr) {
        // A handler that was still sending when its client left has done nothing wrong.
        let left = ws.is_closed() && error.is_instance_of::<WebSocketClosed>(py);
        if left || error.is_instance_of::<CancelledError>(py) {
            ws.finish(
                1001,
                "",
                Some(Rejection::new(503, "The server is going away.")),
            );
        } else if ws.is_opening() {
            let rejection = self.host.rejection(py, &ws.label(), error);
            ws.finish(1011, "", Some(rejection));
        } else {
            ws.finish(1011, "the handler failed", None);
            self.host.report(py, &ws.label(), error);
        }
    }
}
