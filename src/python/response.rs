//! What a handler returned, as an HTTP response.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use bytes::Bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyString, PyTuple};

use super::errors::value_error;
use super::handler::EventBox;
use super::{held, json};
use crate::actors::limits::Limits;
use crate::actors::topic::Topic;
use crate::http::early_hints::EarlyHints;
use crate::http::event_stream::{self, EventStream};
use crate::http::response::{JSON, Response, ResponseBody, TEXT};
use crate::http::trailers;

const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A response, and what its body is yet to be made of.
pub(super) struct Made {
    pub response: Response,
    /// What it is made of, if it is streamed.
    pub streamed: Option<Streamed>,
}

/// What a streamed body is made of.
pub(super) struct Streamed {
    /// Gives the pieces.
    pub iterator: Py<PyAny>,
    /// Gives the trailers at the end, if there may be any.
    pub trailers: Option<Py<PyAny>>,
}

impl From<Response> for Made {
    fn from(response: Response) -> Self {
        Self {
            response,
            streamed: None,
        }
    }
}

/// Understands dict and list (JSON), str (text), bytes, None (204), `Response`, and Flask's tuples
/// `(body, status)` and `(body, status, headers)`. A generator is streamed as text. Large bytes and strings are sent
/// from where they are, and then go to `events`.
pub(super) fn from_python(value: &Bound<'_, PyAny>, events: &EventBox) -> PyResult<Made> {
    if let Ok(tuple) = value.cast::<PyTuple>() {
        return from_tuple(tuple, events);
    }
    if let Some((content_type, body)) = plain_body(value, events)? {
        return Ok(response(StatusCode::OK, Some(content_type), body).into());
    }
    if value.is_none() {
        return Ok(response(StatusCode::NO_CONTENT, None, Bytes::new()).into());
    }
    from_object(value, events)
}

/// The body and its natural type, if the value is one that speaks for itself.
fn plain_body(
    value: &Bound<'_, PyAny>,
    events: &EventBox,
) -> PyResult<Option<(HeaderValue, Bytes)>> {
    if value.is_instance_of::<PyDict>() || value.is_instance_of::<PyList>() {
        return Ok(Some((JSON, json::answer(value)?.into())));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Some((TEXT, held::text_of(text, events)?)));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some((BINARY, held::bytes_of(bytes, events))));
    }
    Ok(None)
}

fn from_tuple(tuple: &Bound<'_, PyTuple>, events: &EventBox) -> PyResult<Made> {
    if !(2..=3).contains(&tuple.len()) {
        return Err(PyTypeError::new_err(
            "A handler may return (body, status) or (body, status, headers); this tuple has \
             another length. For a JSON array return a list.",
        ));
    }
    let mut made = from_python(&tuple.get_item(0)?, events)?;
    let response = &mut made.response;
    response.status = status(&tuple.get_item(1)?)?;
    if tuple.len() == 3 {
        let headers = tuple.get_item(2)?;
        let pairs = match headers.cast::<PyDict>() {
            Ok(dict) => dict.items().into_any(),
            Err(_) => headers,
        };
        add_headers(response, &pairs)?;
    }
    Ok(made)
}

/// A `fanbus.Response`, anything with `body`, `status` and `headers`, an iterator, or a model. A body is bytes, an
/// iterator, an event stream, or the path of a file.
fn from_object(value: &Bound<'_, PyAny>, events: &EventBox) -> PyResult<Made> {
    if !is_response(value)? {
        if value.hasattr("__await__")? {
            return Err(forgotten(value));
        }
        if is_iterator(value)? {
            let response = response(StatusCode::OK, Some(TEXT), Bytes::new());
            let streamed = Some(Streamed {
                iterator: value.clone().unbind(),
                trailers: None,
            });
            return Ok(Made { response, streamed });
        }
        if is_event_stream(value)? {
            let mut made = Made::from(response(StatusCode::OK, None, Bytes::new()));
            made.response.body = stream_of(value)?;
            add_headers(&mut made.response, &value.getattr("headers")?)?;
            return Ok(made);
        }
        return model(value);
    }
    let body = value.getattr("body")?;
    let mut made = Made::from(response(
        status(&value.getattr("status")?)?,
        None,
        Bytes::new(),
    ));
    if let Ok(bytes) = body.cast::<PyBytes>() {
        made.response.body = ResponseBody::Bytes(held::bytes_of(bytes, events));
    } else if is_iterator(&body)? {
        made.streamed = Some(Streamed {
            trailers: trailers_of(value, &mut made.response)?,
            iterator: body.unbind(),
        });
    } else if is_event_stream(&body)? {
        made.response.body = stream_of(&body)?;
    } else {
        made.response.body = ResponseBody::File(body.extract()?);
    }
    add_headers(&mut made.response, &value.getattr("headers")?)?;
    Ok(made)
}

/// A handler has returned what it should have awaited: `request.json()`, or a coroutine.
fn forgotten(value: &Bound<'_, PyAny>) -> PyErr {
    let models = value.py().import("fanbus.hints");
    let sentence = models.and_then(|hints| hints.getattr("forgotten_await")?.call1((value,)));
    match sentence.and_then(|sentence| sentence.extract::<String>()) {
        Ok(sentence) => PyTypeError::new_err(sentence),
        Err(error) => error,
    }
}

/// A model may have a field called `body`.
fn is_response(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(value.hasattr("body")? && value.hasattr("status")? && value.hasattr("headers")?)
}

/// A struct of msgspec, a model of pydantic or a dataclass.
fn model(value: &Bound<'_, PyAny>) -> PyResult<Made> {
    let models = value.py().import("fanbus.parameters.models")?;
    let is_model: bool = models.getattr("is_model")?.call1((value,))?.extract()?;
    if !is_model {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "A handler must return dict, list, str, bytes, None, a model, Response, EventStream or a \
             generator, not {kind}."
        )));
    }
    Ok(response(StatusCode::OK, Some(JSON), json::answer(value)?.into()).into())
}

fn is_event_stream(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let module = value.py().import("fanbus.events.topic_stream")?;
    value.is_instance(&module.getattr("EventStream")?)
}

/// Ends an event stream. Any thread.
#[pyclass(module = "fanbus._core", frozen)]
#[derive(Default)]
pub(super) struct StreamEnd(Arc<event_stream::StreamEnd>);

#[pymethods]
impl StreamEnd {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Sends this as the last of the stream, and ends it. Only the first call counts.
    fn set(&self, last: &[u8]) {
        self.0.set(last.to_vec().into());
    }
}

/// A `fanbus.EventStream`, which has checked its fields but for the topic.
fn stream_of(value: &Bound<'_, PyAny>) -> PyResult<ResponseBody> {
    let topic: String = value.getattr("topic")?.extract()?;
    let seconds = |name: &str| -> PyResult<Duration> {
        let seconds: f64 = value.getattr(name)?.extract()?;
        Duration::try_from_secs_f64(seconds).map_err(value_error)
    };
    let stream = EventStream {
        topic: Topic::new(&topic).map_err(value_error)?,
        last: value.getattr("last")?.extract()?,
        last_event_id: value.getattr("last_event_id")?.extract()?,
        retry_ms: seconds("retry")?.as_millis() as u64,
        limits: Limits {
            heartbeat_interval: Some(seconds("ping_interval")?),
            // Its connection has one, as for any response: it knows what the client has taken.
            timeout: None,
            max_queue_bytes: value.getattr("max_queue_bytes")?.extract()?,
            max_connections: value.getattr("max_connections")?.extract()?,
            ..Limits::default()
        },
        end: Arc::clone(&value.getattr("_end")?.cast::<StreamEnd>()?.get().0),
    };
    Ok(ResponseBody::Events(Box::new(stream)))
}

fn is_iterator(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(value.hasattr("__next__")? || value.hasattr("__anext__")?)
}

fn status(value: &Bound<'_, PyAny>) -> PyResult<StatusCode> {
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

fn add_headers(response: &mut Response, pairs: &Bound<'_, PyAny>) -> PyResult<()> {
    for pair in pairs.try_iter()? {
        let (name, value) = header_line(&pair?)?;
        if name == header::CONTENT_TYPE {
            response.content_type = Some(value);
        } else {
            response.headers.push((name, value));
        }
    }
    Ok(())
}

/// A name and a value.
fn header_line(pair: &Bound<'_, PyAny>) -> PyResult<(HeaderName, HeaderValue)> {
    let (name, value): (String, String) = pair.extract()?;
    let bad = || PyValueError::new_err(format!("{name:?}: {value:?} cannot be a header."));
    let parsed: HeaderName = name.parse().map_err(|_| bad())?;
    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?;
    Ok((parsed, value))
}

/// The lines of a mapping, or of an iterable of pairs.
fn header_lines(given: &Bound<'_, PyAny>) -> PyResult<Vec<(HeaderName, HeaderValue)>> {
    let pairs = match given.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => given.clone(),
    };
    let pairs = pairs.try_iter()?;
    pairs.map(|pair| header_line(&pair?)).collect()
}

/// What `request.send_early_hints` is given.
pub(super) fn early_hints(headers: &Bound<'_, PyAny>) -> PyResult<EarlyHints> {
    let mut hints = EarlyHints::default();
    for (name, value) in header_lines(headers)? {
        hints.add(name, value).map_err(value_error)?;
    }
    Ok(hints)
}

/// What a response's trailers were when its body had come to its end.
pub(super) fn trailers(lines: &Bound<'_, PyAny>) -> PyResult<trailers::Trailers> {
    let mut trailers = trailers::Trailers::default();
    for (name, value) in header_lines(lines)? {
        trailers.add(name, value).map_err(value_error)?;
    }
    Ok(trailers)
}

/// What will give the trailers of a streamed response. The names that a mapping has already are announced.
fn trailers_of(value: &Bound<'_, PyAny>, response: &mut Response) -> PyResult<Option<Py<PyAny>>> {
    // Any object with a body, a status and headers is a response.
    let Some(given) = value.getattr_opt("trailers")?.filter(|it| !it.is_none()) else {
        return Ok(None);
    };
    if let Ok(mapping) = given.cast::<PyMapping>() {
        let mut names = Vec::new();
        for name in mapping.keys()? {
            let text: String = name.extract()?;
            let bad =
                |_| PyValueError::new_err(format!("{text:?} cannot be the name of a trailer."));
            let name: HeaderName = text.parse().map_err(bad)?;
            trailers::check_name(&name).map_err(value_error)?;
            names.push(name.as_str().to_owned());
        }
        if !names.is_empty() {
            let names = HeaderValue::try_from(names.join(", ")).map_err(value_error)?;
            response.headers.push((header::TRAILER, names));
        }
    }
    Ok(Some(given.unbind()))
}

fn response(status: StatusCode, content_type: Option<HeaderValue>, body: Bytes) -> Response {
    Response {
        status,
        content_type,
        headers: Vec::new(),
        body: ResponseBody::Bytes(body),
        trailers: None,
    }
}
