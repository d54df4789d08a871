//! The head of a request, as a `Request` and a `WebSocket` both show it to Python.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_http::header::COOKIE;
use percent_encoding::percent_decode;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::multidict::MultiDict;
use super::router::to_python;
use crate::http::head::Head as Http;
use crate::http::headers::Headers;
use crate::http::path::Value;

/// The head of a request: what both a `Request` and a `WebSocket` show of it. Python's objects are
/// made when they are asked for, and kept.
pub(super) struct Head {
    pub http: Arc<Http>,
    /// Names of the path's parameters, shared by all requests of an endpoint.
    names: Arc<[String]>,
    pub values: Box<[Value]>,
    /// Most handlers ask for nothing.
    views: PyOnceLock<Box<PythonViews>>,
}

/// What Python has asked for.
struct PythonViews {
    path_params: PyOnceLock<Py<PyDict>>,
    query: PyOnceLock<Py<MultiDict>>,
    headers: PyOnceLock<Py<MultiDict>>,
    cookies: PyOnceLock<Py<PyDict>>,
}

impl Head {
    /// `names` are those of the path's parameters.
    pub(super) fn new(http: Arc<Http>, names: &Arc<[String]>, values: Box<[Value]>) -> Self {
        Self {
            http,
            names: Arc::clone(names),
            values,
            views: PyOnceLock::new(),
        }
    }

    fn views(&self, py: Python<'_>) -> &PythonViews {
        let nothing = || PythonViews {
            path_params: PyOnceLock::new(),
            query: PyOnceLock::new(),
            headers: PyOnceLock::new(),
            cookies: PyOnceLock::new(),
        };
        self.views.get_or_init(py, || Box::new(nothing()))
    }

    /// As a log names the client: address and port.
    pub(super) fn client_text(&self) -> String {
        self.http
            .peer
            .address
            .map_or_else(|| "an unknown client".to_owned(), |peer| peer.to_string())
    }

    /// The path, decoded for people and handlers.
    pub(super) fn path(&self) -> Cow<'_, str> {
        percent_decode(self.http.path().as_bytes()).decode_utf8_lossy()
    }

    /// Address and port of the client. On a Unix socket nobody has one: ("", 0).
    pub(super) fn client(&self) -> (String, u16) {
        let known = |peer: SocketAddr| (peer.ip().to_string(), peer.port());
        self.http.peer.address.map(known).unwrap_or_default()
    }

    pub(super) fn path_params<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let params = self.views(py).path_params.get_or_try_init(py, || {
            let params = PyDict::new(py);
            for (name, value) in self.names.iter().zip(&*self.values) {
                params.set_item(name, to_python(py, value)?)?;
            }
            Ok::<_, PyErr>(params.unbind())
        })?;
        Ok(params.bind(py).clone())
    }

    pub(super) fn query<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, MultiDict>> {
        let make = || Py::new(py, MultiDict::form(self.http.query()));
        let query = self.views(py).query.get_or_try_init(py, make)?;
        Ok(query.bind(py).clone())
    }

    pub(super) fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, MultiDict>> {
        let make = || {
            // Header values are bytes; what is not UTF-8 is read as Latin-1 (RFC 9110, 5.5).
            let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => bytes.iter().copied().map(char::from).collect(),
            };
            let pairs = self.http.headers();
            let pairs = pairs.map(|(name, value)| (text(name), text(value)));
            Py::new(py, MultiDict::headers(pairs.collect()))
        };
        let headers = self.views(py).headers.get_or_try_init(py, make)?;
        Ok(headers.bind(py).clone())
    }

    /// Cookies by name (RFC 6265, section 4.2); of two with one name the first counts.
    pub(super) fn cookies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let cookies = self.views(py).cookies.get_or_try_init(py, || {
            let cookies = PyDict::new(py);
            for line in self.http.values(&COOKIE) {
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
}

/// A cookie's value without the quotes around it, if it has both.
fn unquoted(value: &str) -> &str {
    let inside = value.strip_prefix('"');
    inside
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}
