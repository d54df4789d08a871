//! `_core.Connection`: the base class of `Request`, `WebSocket` and `Session`, which shows the head of a request.
//!
//! Python's objects are made when they are first used, and held: most handlers use none of them.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use actix_http::header::COOKIE;
use percent_encoding::percent_decode;
use pyo3::prelude::*;
use pyo3::sync::{OnceLockExt, PyOnceLock};
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use super::endpoint::to_python;
use super::multidict::MultiDict;
use crate::http::head::Head;
use crate::http::headers::Headers;
use crate::http::path::Value;

/// The path below which a proxy shows the application: one for the process, which serves one application.
static ROOT_PATH: RwLock<String> = RwLock::new(String::new());

/// Sets [`root_path`].
pub(super) fn set_root_path(path: String) {
    *ROOT_PATH.write().unwrap_or_else(PoisonError::into_inner) = path;
}

/// The path below which a proxy shows the application that this process serves; empty before it serves.
#[pyfunction]
pub(super) fn root_path() -> String {
    let path = ROOT_PATH.read().unwrap_or_else(PoisonError::into_inner);
    path.clone()
}

/// The kind of a connection, which decides its scheme.
#[derive(Clone, Copy)]
pub(super) enum ConnectionKind {
    Http,
    WebSocket,
}

/// The request of a client: an HTTP request, or the handshake of a WebSocket.
#[pyclass(frozen, subclass, module = "fanbus._core")]
pub(super) struct Connection {
    pub head: Arc<Head>,
    /// Names of the path's parameters, shared by all requests of an endpoint.
    names: Arc<[String]>,
    /// The values of the path's parameters.
    pub values: Box<[Value]>,
    /// Made for the first attribute that needs it.
    views: PyOnceLock<Box<PythonViews>>,
    /// Made when the application first uses it.
    state: OnceLock<Py<PyDict>>,
    kind: ConnectionKind,
}

/// Parts of the head as Python's objects.
struct PythonViews {
    path_params: PyOnceLock<Py<PyDict>>,
    query: PyOnceLock<Py<MultiDict>>,
    headers: PyOnceLock<Py<MultiDict>>,
    cookies: PyOnceLock<Py<PyDict>>,
}

impl Connection {
    /// `names` are those of the path's parameters.
    pub(super) fn new(
        kind: ConnectionKind,
        head: Arc<Head>,
        names: &Arc<[String]>,
        values: Box<[Value]>,
    ) -> Self {
        Self {
            head,
            names: Arc::clone(names),
            values,
            views: PyOnceLock::new(),
            state: OnceLock::new(),
            kind,
        }
    }

    fn views(&self, py: Python<'_>) -> &PythonViews {
        self.views.get_or_init(py, || {
            Box::new(PythonViews {
                path_params: PyOnceLock::new(),
                query: PyOnceLock::new(),
                headers: PyOnceLock::new(),
                cookies: PyOnceLock::new(),
            })
        })
    }

    /// The client's address and port, for a log.
    pub(super) fn client_label(&self) -> String {
        self.head
            .peer
            .address
            .map_or_else(|| "an unknown client".to_owned(), |peer| peer.to_string())
    }
}

#[pymethods]
impl Connection {
    /// The path, percent-decoded.
    #[getter]
    pub(super) fn path(&self) -> Cow<'_, str> {
        percent_decode(self.head.path().as_bytes()).decode_utf8_lossy()
    }

    /// The path's parameters by name.
    #[getter]
    fn path_params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let params = self.views(py).path_params.get_or_try_init(py, || {
            let params = PyDict::new(py);
            for (name, value) in self.names.iter().zip(&*self.values) {
                params.set_item(name, to_python(py, value)?)?;
            }
            Ok::<_, PyErr>(params.unbind())
        })?;
        Ok(params.bind(py).clone())
    }

    /// The query's parameters.
    #[getter]
    fn query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, MultiDict>> {
        let make = || Py::new(py, MultiDict::form(self.head.query()));
        let query = self.views(py).query.get_or_try_init(py, make)?;
        Ok(query.bind(py).clone())
    }

    /// The headers; names without regard to case.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, MultiDict>> {
        let make = || {
            // Header values are bytes; a value that is not UTF-8 is read as Latin-1 (RFC 9110, 5.5).
            let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => bytes.iter().copied().map(char::from).collect(),
            };
            let pairs = self.head.headers();
            let pairs = pairs.map(|(name, value)| (text(name), text(value)));
            Py::new(py, MultiDict::headers(pairs.collect()))
        };
        let headers = self.views(py).headers.get_or_try_init(py, make)?;
        Ok(headers.bind(py).clone())
    }

    /// The cookies by name (RFC 6265, section 4.2); the first of two with one name counts.
    #[getter]
    fn cookies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let cookies = self.views(py).cookies.get_or_try_init(py, || {
            let cookies = PyDict::new(py);
            for line in self.head.values(&COOKIE) {
                let line = String::from_utf8_lossy(line);
                for pair in line.split(';') {
                    let Some((name, value)) = pair.split_once('=') else {
                        continue;
                    };
                    let (name, value) = (name.trim(), unquoted(value.trim()));
                    if !cookies.contains(name)? {
                        cookies.set_item(name, value)?;
                    }
                }
            }
            Ok::<_, PyErr>(cookies.unbind())
        })?;
        Ok(cookies.bind(py).clone())
    }

    /// Address and port of the client; ("", 0) over a Unix socket.
    #[getter]
    fn client(&self) -> (String, u16) {
        let known = |peer: SocketAddr| (peer.ip().to_string(), peer.port());
        self.head.peer.address.map(known).unwrap_or_default()
    }

    /// "https" or "wss" if the client uses TLS, to the server or to a trusted proxy; else "http" or "ws".
    #[getter]
    fn scheme(&self) -> &'static str {
        match (self.kind, self.head.peer.is_secure) {
            (ConnectionKind::Http, false) => "http",
            (ConnectionKind::Http, true) => "https",
            (ConnectionKind::WebSocket, false) => "ws",
            (ConnectionKind::WebSocket, true) => "wss",
        }
    }

    /// The path below which a proxy shows the application (`--root-path`): it goes before every link.
    #[getter]
    #[expect(clippy::unused_self, reason = "an attribute in Python")]
    fn root_path(&self) -> String {
        root_path()
    }

    /// A dict for the application, which lives as long as this object.
    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyDict> {
        let make = || PyDict::new(py).unbind();
        let state = self.state.get_or_init_py_attached(py, make);
        state.bind(py).clone()
    }

    /// A `state` that refers to its own connection would else never be freed.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.state.get())
    }
}

/// A cookie's value without the quotes around it, if it has both.
fn unquoted(value: &str) -> &str {
    let inside = value.strip_prefix('"');
    inside
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}
