//! What becomes of an error that a handler raised: a client gets an answer, and the application's log the rest.

use actix_web::http::StatusCode;
use pyo3::exceptions::asyncio::CancelledError;
use pyo3::prelude::*;

use super::dispatch::HandlerRuntime;
use super::errors::HttpRefusal;
use crate::actors::rejection::Rejection;
use crate::http::response::Response;

impl HandlerRuntime {
    /// Tells the application's log of an error that nobody caught.
    pub(super) fn report(&self, py: Python<'_>, place: &str, error: PyErr) {
        let value = error.into_value(py);
        if let Err(error) = self.callbacks.on_error.call1(py, (place, value)) {
            // The log itself failed: Python's last resort still prints it.
            error.write_unraisable(py, None);
        }
    }

    pub(super) fn error_response(&self, py: Python<'_>, label: &str, error: PyErr) -> Response {
        if let Some(refused) = HttpRefusal::from_error(py, &error) {
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

    /// What a client is told whose handshake ended in an error.
    pub(super) fn rejection(&self, py: Python<'_>, label: &str, error: PyErr) -> Rejection {
        if let Some(refused) = HttpRefusal::from_error(py, &error) {
            return refused.into_rejection();
        }
        self.report(py, label, error);
        Rejection::new(500, "The application failed.")
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
