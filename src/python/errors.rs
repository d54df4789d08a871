//! Exceptions that `fanbus.exceptions` defines and Rust raises or understands.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::actors::rejection::Rejection;
use crate::http::response::Response;

pyo3::import_exception!(fanbus.exceptions, BusError);
pyo3::import_exception!(fanbus.exceptions, HTTPError);
pyo3::import_exception!(fanbus.exceptions, Lagged);
pyo3::import_exception!(fanbus.exceptions, MissingError);
pyo3::import_exception!(fanbus.exceptions, WebSocketClosed);

/// Turns any error whose text is a sentence into Python's `ValueError`.
pub(super) fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// What an `HTTPError` says.
pub(super) struct HttpRefusal {
    status: u16,
    body: String,
    headers: Vec<(String, String)>,
}

impl HttpRefusal {
    /// Reads the exception if it is an `HTTPError`.
    pub(super) fn from_error(py: Python<'_>, error: &PyErr) -> Option<Self> {
        if !error.is_instance_of::<HTTPError>(py) {
            return None;
        }
        let value = error.value(py);
        let status = value.getattr("status").ok()?.extract().ok()?;
        let body = value.getattr("body").ok()?.extract().ok()?;
        let headers: std::collections::HashMap<String, String> =
            value.getattr("headers").ok()?.extract().ok()?;
        Some(Self {
            status,
            body,
            headers: headers.into_iter().collect(),
        })
    }

    /// What a client gets that wanted to open a WebSocket.
    pub(super) fn into_rejection(self) -> Rejection {
        Rejection {
            status: self.status,
            body: self.body,
            headers: self.headers,
        }
    }

    /// The response that an HTTP client gets.
    pub(super) fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = Response::sentence(status, self.body);
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) =
                (name.parse::<HeaderName>(), HeaderValue::from_str(&value))
            {
                if name == CONTENT_TYPE {
                    response.content_type = Some(value);
                } else {
                    response = response.with_header(name, value);
                }
            }
        }
        response
    }
}
