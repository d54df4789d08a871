//! `_core.Request`: the HTTP request that a handler gets.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use actix_http::Method;
use actix_http::header::CONTENT_TYPE;
use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use super::awaitables::Ready;
use super::connection::{Connection, ConnectionKind};
use super::endpoint::Endpoint;
use super::errors::HTTPError;
use super::events::EventBox;
use super::form;
use super::json;
use super::response;
use super::upload::{Upload, is_streamed};
use super::worker_handle::WorkerHandle;
use crate::http::form::{MAX_PARTS, Part};
use crate::http::head::Head;
use crate::http::headers::Headers;
use crate::http::limits::MAX_EARLY_HINTS;
use crate::http::path::Value;
use crate::http::replies::{Reply, ReplyKey};
use crate::http::request as http;

/// Functions that one request may schedule for after its response.
const MAX_TASKS: usize = 100;

/// The body of a request that should be JSON, as bytes, for the decoder of a model. `HTTPError` 415 if there is a body
/// with another `Content-Type`.
#[pyfunction]
pub(super) fn json_body<'py>(request: &Bound<'py, Request>) -> PyResult<Bound<'py, PyBytes>> {
    let inner = request.get();
    let kind = Request::head(request).values(&CONTENT_TYPE).next();
    let is_empty = matches!(&inner.body, RequestBody::Bytes(bytes) if bytes.is_empty());
    if !is_empty && !kind.is_some_and(is_json) {
        return Err(HTTPError::new_err((
            415,
            "The body must be JSON: send it with Content-Type: application/json.",
        )));
    }
    Ok(PyBytes::new(request.py(), inner.body()?))
}

/// One HTTP request. Handlers get it; it is never constructed by hand.
///
/// `json`, `text`, `bytes` and `form` return the value in a synchronous handler, and an awaitable in an asynchronous
/// one. A multipart form is for `form` only.
#[pyclass(frozen, weakref, extends = Connection, module = "fanbus._core")]
pub(super) struct Request {
    method: Method,
    body: RequestBody,
    /// The thread of the event loop, whose callers get awaitables. None for a synchronous handler. A synchronous function
    /// that an asynchronous handler calls on another thread gets the values.
    loop_thread: Option<ThreadId>,
    /// The form for synchronous functions, and the form for asynchronous ones.
    forms: [PyOnceLock<Py<PyAny>>; 2],
    /// The worker and the key of the response. None for the handshake of a WebSocket.
    client: Option<(Arc<WorkerHandle>, ReplyKey)>,
    answer: Mutex<ResponseState>,
}

/// The state of the response.
enum ResponseState {
    /// The handler has not returned yet.
    Open {
        /// The functions to call after the response.
        after: Vec<Task>,
        /// The number of early hints that were sent before it.
        hints: usize,
    },
    /// The handler has returned, and the response was handed over.
    Sent,
}

/// The parts of the worker that a request uses.
pub(super) struct RequestLinks<'w> {
    /// The mailbox of the event loop, for the body.
    pub events: &'w EventBox,
    /// The worker and the key of the response. None for the handshake of a WebSocket.
    pub client: Option<(&'w Arc<WorkerHandle>, ReplyKey)>,
}

/// A function with its arguments and named arguments.
pub(super) type Task = (Py<PyAny>, Py<PyTuple>, Option<Py<PyDict>>);

/// The body, as the worker has read it.
enum RequestBody {
    Bytes(Bytes),
    /// A multipart form.
    Form(Box<[Arc<Part>]>),
    /// A stream, which `fanbus.runtime.request_stream.BodyStream` reads.
    Stream(Py<Upload>),
}

impl Request {
    /// The request for the function behind `endpoint`.
    pub(super) fn new<'py>(
        py: Python<'py>,
        request: http::Request,
        endpoint: &Endpoint,
        values: &[Value],
        links: RequestLinks<'_>,
    ) -> PyResult<Bound<'py, Self>> {
        let http::Request { method, head, body } = request;
        let body = match body {
            http::RequestContent::Bytes(bytes) => RequestBody::Bytes(bytes),
            http::RequestContent::Form(parts) => {
                RequestBody::Form(parts.into_iter().map(Arc::new).collect())
            }
            http::RequestContent::Stream(upload) => {
                let upload = Upload::new(upload, EventBox::clone(links.events));
                RequestBody::Stream(Py::new(py, upload)?)
            }
        };
        let connection =
            Connection::new(ConnectionKind::Http, head, &endpoint.names, values.into());
        let request = Self {
            method,
            body,
            // An asynchronous function is called on this thread.
            loop_thread: endpoint.asynchronous.then(|| thread::current().id()),
            forms: [PyOnceLock::new(), PyOnceLock::new()],
            client: links.client.map(|(worker, key)| (Arc::clone(worker), key)),
            answer: Mutex::new(ResponseState::Open {
                after: Vec::new(),
                hints: 0,
            }),
        };
        Bound::new(
            py,
            PyClassInitializer::from(connection).add_subclass(request),
        )
    }

    fn head<'r>(this: &'r Bound<'_, Self>) -> &'r Head {
        &this.as_super().get().head
    }

    /// Does the caller get awaitables?
    fn is_awaited(&self) -> bool {
        self.loop_thread
            .is_some_and(|expected| expected == thread::current().id())
    }

    /// The response is handed over: takes the functions to call after it. No more can be added.
    pub(super) fn take_after(&self) -> Vec<Task> {
        match std::mem::replace(&mut *self.answer(), ResponseState::Sent) {
            ResponseState::Open { after, .. } => after,
            ResponseState::Sent => Vec::new(),
        }
    }

    fn answer(&self) -> MutexGuard<'_, ResponseState> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, or an awaitable that returns it.
    fn give<'py>(&self, value: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if self.is_awaited() {
            let py = value.py();
            return Ok(Bound::new(py, Ready::value(value.unbind()))?.into_any());
        }
        Ok(value)
    }

    fn body(&self) -> PyResult<&Bytes> {
        match &self.body {
            RequestBody::Bytes(bytes) => Ok(bytes),
            RequestBody::Form(_) => Err(HTTPError::new_err((
                415,
                "The body is a multipart form, which is parsed while it arrives. Read it with \
                 request.form().",
            ))),
            RequestBody::Stream(_) => Err(is_streamed()),
        }
    }

    /// The names and values of a form, in its order. A value is a str or a `Part`.
    fn form_pairs<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        let py = this.py();
        let pairs = PyList::empty(py);
        match &this.get().body {
            RequestBody::Form(parts) => {
                for part in parts {
                    pairs.append(form::pair(py, part)?)?;
                }
            }
            RequestBody::Bytes(bytes) => {
                let kind = Self::head(this).values(&CONTENT_TYPE).next();
                if !bytes.is_empty() && !kind.is_some_and(is_urlencoded) {
                    return Err(HTTPError::new_err((
                        415,
                        "The body is not a form: its Content-Type must be application/x-www-form-urlencoded \
                         or multipart/form-data.",
                    )));
                }
                // One more than allowed, to find out whether there are too many.
                let fields = form_urlencoded::parse(bytes).take(MAX_PARTS + 1);
                for (at, (name, value)) in fields.enumerate() {
                    if at == MAX_PARTS {
                        let detail = format!("The form has more than {MAX_PARTS} fields.");
                        return Err(HTTPError::new_err((413, detail)));
                    }
                    pairs.append((name, value))?;
                }
            }
            RequestBody::Stream(_) => return Err(is_streamed()),
        }
        Ok(pairs)
    }

    fn body_text(&self) -> PyResult<&str> {
        std::str::from_utf8(self.body()?)
            .map_err(|_| HTTPError::new_err((400, "The body is not valid UTF-8.")))
    }
}

#[pymethods]
impl Request {
    /// The method, in upper case.
    #[getter]
    fn method(&self) -> &str {
        self.method.as_str()
    }

    /// The part of the target behind the `?`, as it was sent.
    #[getter]
    fn query_string<'r>(this: &'r Bound<'_, Self>) -> Cow<'r, str> {
        String::from_utf8_lossy(Self::head(this).query())
    }

    /// The version of HTTP: "1.0", "1.1" or "2".
    #[getter]
    fn http_version(this: &Bound<'_, Self>) -> &'static str {
        Self::head(this).version.as_str()
    }

    /// Calls the function in this worker after the response was handed over.
    #[pyo3(signature = (function, /, *arguments, **named))]
    fn after_response(
        &self,
        function: Bound<'_, PyAny>,
        arguments: Bound<'_, PyTuple>,
        named: Option<Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        if !function.is_callable() {
            return Err(PyTypeError::new_err(
                "after_response takes a function, and what it is called with: write \
                 request.after_response(function, 1, 2), without calling it.",
            ));
        }
        let mut answer = self.answer();
        let ResponseState::Open { after: tasks, .. } = &mut *answer else {
            return Err(PyRuntimeError::new_err(
                "The response has been handed over already: call after_response before the handler \
                 returns.",
            ));
        };
        if tasks.len() >= MAX_TASKS {
            return Err(PyRuntimeError::new_err(format!(
                "A request may have {MAX_TASKS} functions called after its response."
            )));
        }
        tasks.push((
            function.unbind(),
            arguments.unbind(),
            named.map(Bound::unbind),
        ));
        Ok(())
    }

    /// Sends these headers ahead of the response (103), so that the client can preload resources.
    fn send_early_hints(&self, headers: &Bound<'_, PyAny>) -> PyResult<Py<Ready>> {
        let hints = response::early_hints(headers)?;
        let Some((worker, key)) = &self.client else {
            return Err(PyRuntimeError::new_err(
                "Early hints go before the response to an HTTP request, and this is the handshake of a WebSocket.",
            ));
        };
        let mut answer = self.answer();
        let ResponseState::Open { hints: count, .. } = &mut *answer else {
            return Err(PyRuntimeError::new_err(
                "The response has been handed over already: call send_early_hints before the handler returns.",
            ));
        };
        if *count >= MAX_EARLY_HINTS {
            return Err(PyRuntimeError::new_err(format!(
                "A request may have {MAX_EARLY_HINTS} early hints: send several headers in one of them."
            )));
        }
        *count += 1;
        worker.reply(*key, Reply::Hints(hints));
        Ready::nothing(headers.py())
    }

    /// The body, parsed. `HTTPError` 400 if it is not JSON.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let value = json::read(py, self.body_text()?)?;
        self.give(value)
    }

    /// The body as str (UTF-8). `HTTPError` 400 if it is not.
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let text = self.body_text()?.into_pyobject(py)?.into_any();
        self.give(text)
    }

    /// The body.
    fn bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.give(PyBytes::new(py, self.body()?).into_any())
    }

    /// An iterator of the body's chunks, as bytes: `for` in a synchronous handler, `async for` in an asynchronous one.
    /// With `stream_body=True` they come as they arrive; on other routes the whole body is one chunk.
    fn stream<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let uploads = py.import("fanbus.runtime.request_stream")?;
        match &self.body {
            RequestBody::Stream(upload) => uploads.getattr("BodyStream")?.call1((upload,)),
            RequestBody::Bytes(_) | RequestBody::Form(_) => {
                let body = PyBytes::new(py, self.body()?);
                uploads.getattr("WholeBody")?.call1((body,))
            }
        }
    }

    /// The fields and files of a form. `HTTPError` 415 if the body is not a form, 400 if its text is not UTF-8.
    fn form<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, request) = (this.py(), this.get());
        let is_awaited = request.is_awaited();
        let form = request.forms[usize::from(is_awaited)].get_or_try_init(py, || {
            let pairs = Self::form_pairs(this)?;
            let form = py.import("fanbus.forms")?.getattr("Form")?;
            form.call1((pairs, is_awaited)).map(Bound::unbind)
        })?;
        request.give(form.bind(py).clone())
    }

    fn __repr__(this: &Bound<'_, Self>) -> String {
        let path = this.as_super().get().path();
        format!("<Request {} {path}>", this.get().method())
    }
}

/// Is it `application/json`, or based on it, such as `application/merge-patch+json` (RFC 6839)?
fn is_json(content_type: &[u8]) -> bool {
    let kind = content_type.split(|&byte| byte == b';').next();
    let kind = kind.unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let subtype = kind.strip_prefix(b"application/");
    subtype.is_some_and(|subtype| subtype == b"json" || subtype.ends_with(b"+json"))
}

fn is_urlencoded(content_type: &[u8]) -> bool {
    const FORM: &[u8] = b"application/x-www-form-urlencoded";
    let kind = content_type.get(..FORM.len());
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(FORM))
}
