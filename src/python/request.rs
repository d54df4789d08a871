//! `_core.Request`.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::{self, ThreadId};

use actix_http::Method;
use actix_http::header::CONTENT_TYPE;
use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::sync::{OnceLockExt, PyOnceLock};
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::awaitables::Ready;
use super::errors::HTTPError;
use super::events::EventBox;
use super::form;
use super::head::Head;
use super::json;
use super::multidict::MultiDict;
use super::response;
use super::router::Endpoint;
use super::upload::{Upload, is_streamed};
use super::worker_handle::WorkerHandle;
use crate::http::form::{MAX_PARTS, Part};
use crate::http::headers::Headers;
use crate::http::limits::MAX_EARLY_HINTS;
use crate::http::path::Value;
use crate::http::replies::{Reply, ReplyKey};
use crate::http::request as http;

/// Functions that one request may have called after its response.
const MOST_TASKS: usize = 100;

/// Where a proxy shows the application: one for the process, which serves one application.
static ROOT_PATH: RwLock<String> = RwLock::new(String::new());

/// See [`Request::root_path`].
pub(super) fn set_root_path(path: String) {
    *ROOT_PATH.write().unwrap_or_else(PoisonError::into_inner) = path;
}

/// Where a proxy shows the application that this process serves; nothing before it serves.
#[pyfunction]
pub(super) fn root_path() -> String {
    let path = ROOT_PATH.read().unwrap_or_else(PoisonError::into_inner);
    path.clone()
}

/// The body of a request that should be JSON, for who decodes it; nobody awaits it. `HTTPError` 415 if
/// there is one that says it is something else.
#[pyfunction]
pub(super) fn json_body<'py>(request: &Bound<'py, Request>) -> PyResult<Bound<'py, PyBytes>> {
    let asked = request.get();
    let kind = asked.head.http.values(&CONTENT_TYPE).next();
    let is_empty = matches!(&asked.body, RequestBody::Bytes(bytes) if bytes.is_empty());
    if !is_empty && !kind.is_some_and(is_json) {
        return Err(HTTPError::new_err((
            415,
            "The body must be JSON: send it with Content-Type: application/json.",
        )));
    }
    Ok(PyBytes::new(request.py(), asked.body()?))
}

/// One HTTP request. Handlers get it; it is never constructed by hand.
///
/// `json`, `text`, `bytes` and `form` give the value in a synchronous handler, and something to
/// await in an asynchronous one. A multipart form is for `form` only.
#[pyclass(frozen, weakref, module = "fanbus._core")]
pub(super) struct Request {
    method: Method,
    head: Head,
    body: RequestBody,
    /// The thread whose callers await what they ask for: that of the event loop. None: nobody does.
    /// A synchronous function that an asynchronous one has called on another thread gets the values.
    loop_thread: Option<ThreadId>,
    state: OnceLock<Py<PyDict>>,
    /// As a synchronous function reads it, and as an asynchronous one does.
    forms: [PyOnceLock<Py<PyAny>>; 2],
    /// The way to its client. None for the handshake of a WebSocket.
    client: Option<(Arc<WorkerHandle>, ReplyKey)>,
    answer: Mutex<ResponseState>,
}

/// How far the answer is.
enum ResponseState {
    /// The response has not been given yet.
    Open {
        /// What is to be done after it.
        after: Vec<Task>,
        /// Early hints that the client gets before it.
        hints: usize,
    },
    /// The response has been given.
    Sent,
}

/// Where the body of a request is read from, and where its answer goes.
pub(super) struct RequestLinks<'w> {
    /// To the event loop.
    pub events: &'w EventBox,
    /// To the client. None for the handshake of a WebSocket.
    pub client: Option<(&'w Arc<WorkerHandle>, ReplyKey)>,
}

/// A function with what it is called with.
pub(super) type Task = (Py<PyAny>, Py<PyTuple>, Option<Py<PyDict>>);

/// The body, as far as it is understood before Python asks.
enum RequestBody {
    Bytes(Bytes),
    /// A multipart form.
    Form(Box<[Arc<Part>]>),
    /// What `fanbus.runtime.request_stream.BodyStream` reads.
    Stream(Py<Upload>),
}

impl Request {
    /// For the function behind `endpoint`.
    pub(super) fn new(
        py: Python<'_>,
        request: http::Request,
        endpoint: &Endpoint,
        values: &[Value],
        links: RequestLinks<'_>,
    ) -> PyResult<Self> {
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
        Ok(Self {
            method,
            head: Head::new(head, &endpoint.names, values.into()),
            body,
            // It is made where an asynchronous function is called.
            loop_thread: endpoint.asynchronous.then(|| thread::current().id()),
            state: OnceLock::new(),
            forms: [PyOnceLock::new(), PyOnceLock::new()],
            client: links.client.map(|(worker, key)| (Arc::clone(worker), key)),
            answer: Mutex::new(ResponseState::Open {
                after: Vec::new(),
                hints: 0,
            }),
        })
    }

    /// Does who asks await what it gets?
    fn is_awaited(&self) -> bool {
        self.loop_thread
            .is_some_and(|expected| expected == thread::current().id())
    }

    /// The response is given: what is to be done after it. Later ones are refused.
    pub(super) fn take_after(&self) -> Vec<Task> {
        match std::mem::replace(&mut *self.answer(), ResponseState::Sent) {
            ResponseState::Open { after, .. } => after,
            ResponseState::Sent => Vec::new(),
        }
    }

    fn answer(&self) -> MutexGuard<'_, ResponseState> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value, or what gives it when it is awaited.
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

    /// Names and values of a form, in its order: str, or `Part`.
    fn form_pairs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let pairs = PyList::empty(py);
        match &self.body {
            RequestBody::Form(parts) => {
                for part in parts {
                    pairs.append(form::pair(py, part)?)?;
                }
            }
            RequestBody::Bytes(bytes) => {
                let kind = self.head.http.values(&CONTENT_TYPE).next();
                if !bytes.is_empty() && !kind.is_some_and(is_urlencoded) {
                    return Err(HTTPError::new_err((
                        415,
                        "The body is not a form: its Content-Type must be application/x-www-form-urlencoded \
                         or multipart/form-data.",
                    )));
                }
                // One more than there may be, so that it is known that there are too many.
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

    /// The path, percent-decoded.
    #[getter]
    fn path(&self) -> Cow<'_, str> {
        self.head.path()
    }

    /// What follows the `?`, as it was sent.
    #[getter]
    fn query_string(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.head.http.query())
    }

    /// The path's parameters by name.
    #[getter]
    fn path_params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.head.path_params(py)
    }

    /// The query's parameters.
    #[getter]
    fn query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, MultiDict>> {
        self.head.query(py)
    }

    /// The headers; names without regard to case.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, MultiDict>> {
        self.head.headers(py)
    }

    /// The cookies by name.
    #[getter]
    fn cookies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.head.cookies(py)
    }

    /// Address and port of the other end of the connection.
    #[getter]
    fn client(&self) -> (String, u16) {
        self.head.client()
    }

    /// "https" if the request came over TLS, to the server or to a trusted proxy; else "http".
    #[getter]
    fn scheme(&self) -> &'static str {
        if self.head.http.peer.is_secure {
            "https"
        } else {
            "http"
        }
    }

    /// The version of HTTP: "1.0", "1.1" or "2".
    #[getter]
    fn http_version(&self) -> &'static str {
        self.head.http.version.as_str()
    }

    /// Where a proxy shows the application, as `--root-path` says: it goes before every link.
    #[getter]
    #[expect(clippy::unused_self, reason = "Python asks an object")]
    fn root_path(&self) -> String {
        root_path()
    }

    /// Yours: kept as long as the request.
    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyDict> {
        let make = || PyDict::new(py).unbind();
        let state = self.state.get_or_init_py_attached(py, make);
        state.bind(py).clone()
    }

    /// Calls the function, in this worker, when the response has been handed over.
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
        if tasks.len() >= MOST_TASKS {
            return Err(PyRuntimeError::new_err(format!(
                "A request may have {MOST_TASKS} functions called after its response."
            )));
        }
        tasks.push((
            function.unbind(),
            arguments.unbind(),
            named.map(Bound::unbind),
        ));
        Ok(())
    }

    /// Sends these headers ahead of the response (103), so that the client can begin to load what they name.
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

    /// An iterator of the body's pieces, as bytes: `for` in a synchronous handler, `async for` in an
    /// asynchronous one. A route with `stream_body=True` gets them as they come; any other has read the body
    /// before, and gets it in one piece.
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

    /// The fields and files of a form. `HTTPError` 415 if the body is none, 400 if its text is not
    /// UTF-8.
    fn form<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let is_awaited = self.is_awaited();
        let form = self.forms[usize::from(is_awaited)].get_or_try_init(py, || {
            let pairs = self.form_pairs(py)?;
            let form = py.import("fanbus.forms")?.getattr("Form")?;
            form.call1((pairs, is_awaited)).map(Bound::unbind)
        })?;
        self.give(form.bind(py).clone())
    }

    /// A `state` that knows its request would else never be freed.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.state.get())
    }

    fn __repr__(&self) -> String {
        format!("<Request {} {}>", self.method(), self.path())
    }
}

/// `application/json` and what is built on it, as `application/merge-patch+json` (RFC 6839).
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
