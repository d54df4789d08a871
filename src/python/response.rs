//! What a handler returned, as an HTTP response.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use bytes::Bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use super::json;
use crate::http::response::{JSON, Response, TEXT};

const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Understands dict and list (JSON), str (text), bytes, None (204), `Response`, and Flask's tuples
/// `(body, status)` and `(body, status, headers)`.
pub(super) fn from_python(value: &Bound<'_, PyAny>) -> PyResult<Response> {
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return from_tuple(tuple);
    }
    if let Some((content_type, body)) = plain_body(value)? {
        return Ok(response(StatusCode::OK, Some(content_type), body));
    }
    if value.is_none() {
        return Ok(response(StatusCode::NO_CONTENT, None, Vec::new()));
    }
    from_object(value)
}

/// The body and its natural type, if the value is one that speaks for itself.
fn plain_body(value: &Bound<'_, PyAny>) -> PyResult<Option<(HeaderValue, Vec<u8>)>> {
    if value.is_instance_of::<PyDict>() || value.is_instance_of::<PyList>() {
        let mut body = Vec::with_capacity(64);
        json::write(value, &mut body)?;
        return Ok(Some((JSON, body)));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Some((TEXT, text.to_str()?.as_bytes().to_vec())));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some((BINARY, bytes.as_bytes().to_vec())));
    }
    Ok(None)
}

fn from_tuple(tuple: &Bound<'_, PyTuple>) -> PyResult<Response> {
    if !(2..=3).contains(&tuple.len()) {
        return Err(PyTypeError::new_err(
            "A handler may return (body, status) or (body, status, headers); this tuple has \
             another length. For a JSON array return a list.",
        ));
    }
    let mut response = from_python(&tuple.get_item(0)?)?;
    response.status = status(&tuple.get_item(1)?)?;
    if tuple.len() == 3 {
        let headers = tuple.get_item(2)?;
        let pairs = match headers.cast::<PyDict>() {
            Ok(dict) => dict.items().into_any(),
            Err(_) => headers,
        };
        add_headers(&mut response, &pairs)?;
    }
    Ok(response)
}

/// A `fanbus.Response`, or anything with `body`, `status` and `headers`.
fn from_object(value: &Bound<'_, PyAny>) -> PyResult<Response> {
    let Ok(body) = value.getattr("body") else {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "A handler returns dict, list, str, bytes, None or Response, not {kind}."
        )));
    };
    let body = body.cast::<PyBytes>()?.as_bytes().to_vec();
    let mut response = response(status(&value.getattr("status")?)?, None, body);
    add_headers(&mut response, &value.getattr("headers")?)?;
    Ok(response)
}

fn status(value: &Bound<'_, PyAny>) -> PyResult<StatusCode> {
    let number: u16 = value.extract()?;
    StatusCode::from_u16(number)
        .ok()
        .filter(|status| (200..600).contains(&status.as_u16()))
        .ok_or_else(|| PyValueError::new_err(format!("{number} is no status of a response.")))
}

fn add_headers(response: &mut Response, pairs: &Bound<'_, PyAny>) -> PyResult<()> {
    for pair in pairs.try_iter()? {
        let (name, value): (String, String) = pair?.extract()?;
        let bad = || PyValueError::new_err(format!("{name:?}: {value:?} cannot be a header."));
        let parsed: HeaderName = name.parse().map_err(|_| bad())?;
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?;
        if parsed == header::CONTENT_TYPE {
            response.content_type = Some(value);
        } else {
            response.headers.push((parsed, value));
        }
    }
    Ok(())
}

fn response(status: StatusCode, content_type: Option<HeaderValue>, body: Vec<u8>) -> Response {
    Response {
        status,
        content_type,
        headers: Vec::new(),
        body: Bytes::from(body),
    }
}
