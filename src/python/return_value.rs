//! The rules for the values that a handler may return: each kind is named here, once, for a handler that Rust calls
//! and for middleware, which calls [`as_response`].

use actix_web::http::StatusCode;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyBytes, PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{Borrowed, intern};

/// A value that a handler returned, by its kind.
pub(super) enum ReturnValue<'v, 'py> {
    /// Flask's `(body, status)` and `(body, status, headers)`.
    Tuple(TupleValue<'py>),
    /// A dict, a list or a model, which is sent as JSON.
    Json(&'v Bound<'py, PyAny>),
    /// Plain text.
    Text(Borrowed<'v, 'py, PyString>),
    Bytes(Borrowed<'v, 'py, PyBytes>),
    /// None: 204.
    Nothing,
    /// `fanbus.Response`, or any object with `body`, `status` and `headers`.
    Response(&'v Bound<'py, PyAny>),
    /// An iterator of str or bytes, asynchronous or not: a streamed body.
    Chunks(&'v Bound<'py, PyAny>),
    /// A `fanbus.EventStream`.
    Events(&'v Bound<'py, PyAny>),
}

/// A value with another status, and perhaps with headers.
pub(super) struct TupleValue<'py> {
    /// The value that the response is made of.
    pub value: Bound<'py, PyAny>,
    status: Bound<'py, PyAny>,
    pub headers: Option<Bound<'py, PyAny>>,
}

impl TupleValue<'_> {
    /// `ValueError` if it is out of range.
    pub(super) fn status(&self) -> PyResult<StatusCode> {
        status(&self.status)
    }
}

impl<'v, 'py> ReturnValue<'v, 'py> {
    /// `TypeError` for any other value.
    pub(super) fn of(value: &'v Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(tuple) = value.cast::<PyTuple>() {
            return tuple_value(tuple).map(Self::Tuple);
        }
        if value.is_instance_of::<PyDict>() || value.is_instance_of::<PyList>() {
            return Ok(Self::Json(value));
        }
        if let Ok(text) = value.cast::<PyString>() {
            return Ok(Self::Text(text.as_borrowed()));
        }
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(Self::Bytes(bytes.as_borrowed()));
        }
        if value.is_none() {
            return Ok(Self::Nothing);
        }
        if is_response(value)? {
            return Ok(Self::Response(value));
        }
        if value.hasattr(intern!(value.py(), "__await__"))? {
            return Err(missing_await(value));
        }
        if is_iterator(value)? {
            return Ok(Self::Chunks(value));
        }
        if is_event_stream(value)? {
            return Ok(Self::Events(value));
        }
        if is_model(value)? {
            return Ok(Self::Json(value));
        }
        let kind = value.get_type().name()?;
        Err(PyTypeError::new_err(format!(
            "A handler must return dict, list, str, bytes, None, a model, Response, EventStream or a \
             generator, not {kind}."
        )))
    }
}

fn tuple_value<'py>(tuple: &Bound<'py, PyTuple>) -> PyResult<TupleValue<'py>> {
    if !(2..=3).contains(&tuple.len()) {
        return Err(PyTypeError::new_err(
            "A handler may return (body, status) or (body, status, headers); this tuple has \
             another length. For a JSON array return a list.",
        ));
    }
    Ok(TupleValue {
        value: tuple.get_item(0)?,
        status: tuple.get_item(1)?,
        headers: (tuple.len() == 3).then(|| tuple.get_item(2)).transpose()?,
    })
}

/// The status of a response: 200 to 599.
pub(super) fn status(value: &Bound<'_, PyAny>) -> PyResult<StatusCode> {
    let number: u16 = value.extract()?;
    StatusCode::from_u16(number)
        .ok()
        .filter(|status| (200..600).contains(&status.as_u16()))
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "The status of a response must be from 200 to 599, got {number}."
            ))
        })
}

/// A model may have a field called `body`, so all three are required.
fn is_response(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = value.py();
    Ok(value.hasattr(intern!(py, "body"))?
        && value.hasattr(intern!(py, "status"))?
        && value.hasattr(intern!(py, "headers"))?)
}

pub(super) fn is_iterator(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = value.py();
    Ok(value.hasattr(intern!(py, "__next__"))? || value.hasattr(intern!(py, "__anext__"))?)
}

pub(super) fn is_event_stream(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    value.is_instance(CLASS.import(value.py(), "fanbus.events.topic_stream", "EventStream")?)
}

/// A struct of msgspec, a model of pydantic or a dataclass.
fn is_model(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    static FUNCTION: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let is_model = FUNCTION.import(value.py(), "fanbus.parameters.models", "is_model")?;
    is_model.call1((value,))?.extract()
}

/// The error for a handler that returned something that it should have awaited: `request.json()`, or a coroutine.
fn missing_await(value: &Bound<'_, PyAny>) -> PyErr {
    let hints = value.py().import("fanbus.hints");
    let sentence = hints.and_then(|hints| hints.getattr("forgotten_await")?.call1((value,)));
    match sentence.and_then(|sentence| sentence.extract::<String>()) {
        Ok(sentence) => PyTypeError::new_err(sentence),
        Err(error) => error,
    }
}

/// Returns the value of a handler as a `fanbus.Response`, for middleware. `TypeError` if a handler may not return it.
#[pyfunction]
pub(super) fn as_response<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = value.py();
    let class = CLASS.import(py, "fanbus.responses", "Response")?;
    if value.is_instance(class)? {
        return Ok(value.clone());
    }
    match ReturnValue::of(value)? {
        ReturnValue::Tuple(tuple) => {
            let response = as_response(&tuple.value)?;
            response.setattr("status", tuple.status()?.as_u16())?;
            if let Some(headers) = &tuple.headers {
                add_headers(&response, headers)?;
            }
            Ok(response)
        }
        ReturnValue::Json(value) => class.call_method1("json", (value,)),
        ReturnValue::Text(_) | ReturnValue::Bytes(_) => class.call1((value,)),
        ReturnValue::Nothing => class.call1((py.None(), StatusCode::NO_CONTENT.as_u16())),
        ReturnValue::Response(given) => {
            let (status, headers) = (given.getattr("status")?, given.getattr("headers")?);
            let response = class.call1((py.None(), status, headers))?;
            response.setattr("body", given.getattr("body")?)?;
            response.setattr("trailers", given.getattr_opt("trailers")?)?;
            Ok(response)
        }
        ReturnValue::Chunks(iterator) => {
            let named = [("content_type", "text/plain; charset=utf-8")].into_py_dict(py)?;
            let response = class.call((), Some(&named))?;
            response.setattr("body", iterator)?;
            Ok(response)
        }
        ReturnValue::Events(stream) => {
            let named = [("headers", stream.getattr("headers")?)].into_py_dict(py)?;
            let response = class.call((), Some(&named))?;
            response.setattr("body", stream)?;
            Ok(response)
        }
    }
}

/// Adds headers to a `fanbus.Response`; a response has one content type.
fn add_headers(response: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
    let lines = response.py().import("fanbus.headers")?;
    let lines = lines.call_method1("header_lines", (headers,))?;
    for line in lines.try_iter()? {
        let (name, value): (String, String) = line?.extract()?;
        if name.eq_ignore_ascii_case("content-type") {
            response.call_method1("set_header", (name, value))?;
        } else {
            let lines = response.getattr("headers")?;
            lines.call_method1("append", ((name, value),))?;
        }
    }
    Ok(())
}
