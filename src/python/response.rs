//! The HTTP response that is made of the value that a handler returned.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use bytes::Bytes;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMapping};

use super::errors::value_error;
use super::events::EventBox;
use super::options::EventStreamOptions;
use super::return_value::{ReturnValue, TupleValue, is_event_stream, is_iterator, status};
use super::{json, loan};
use crate::actors::topic::Topic;
use crate::http::early_hints::EarlyHints;
use crate::http::event_stream::{self, EventStream};
use crate::http::response::{JSON, Response, ResponseBody, TEXT};
use crate::http::trailers;

const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// A response, and the source of its body if that is streamed.
pub(super) struct PreparedResponse {
    pub response: Response,

    pub streamed: Option<StreamedBody>,
}

/// The source of a streamed body.
pub(super) struct StreamedBody {
    /// Yields the chunks.
    pub iterator: Py<PyAny>,
    /// The trailers, or a function that returns them at the end.
    pub trailers: Option<Py<PyAny>>,
}

impl From<Response> for PreparedResponse {
    fn from(response: Response) -> Self {
        Self {
            response,
            streamed: None,
        }
    }
}

/// Makes the response of the value that a handler returned: see [`ReturnValue`]. Large bytes and strings are sent from
/// where they are, and go to `events` when they were sent.
pub(super) fn from_python(
    value: &Bound<'_, PyAny>,
    events: &EventBox,
) -> PyResult<PreparedResponse> {
    let (content_type, body) = match ReturnValue::of(value)? {
        ReturnValue::Json(value) => (JSON, json::answer(value)?.into()),
        ReturnValue::Text(text) => (TEXT, loan::text_of(&text, events)?),
        ReturnValue::Bytes(bytes) => (BINARY, loan::bytes_of(&bytes, events)),
        ReturnValue::Nothing => {
            return Ok(response(StatusCode::NO_CONTENT, None, Bytes::new()).into());
        }
        ReturnValue::Tuple(tuple) => return from_tuple(&tuple, events),
        ReturnValue::Response(value) => return from_response(value, events),
        ReturnValue::Chunks(iterator) => {
            return Ok(PreparedResponse {
                response: response(StatusCode::OK, Some(TEXT), Bytes::new()),
                streamed: Some(StreamedBody {
                    iterator: iterator.clone().unbind(),
                    trailers: None,
                }),
            });
        }
        ReturnValue::Events(stream) => {
            let mut response = response(StatusCode::OK, None, Bytes::new());
            response.body = stream_of(stream)?;
            add_headers(&mut response, &stream.getattr("headers")?)?;
            return Ok(response.into());
        }
    };
    Ok(response(StatusCode::OK, Some(content_type), body).into())
}

fn from_tuple(tuple: &TupleValue<'_>, events: &EventBox) -> PyResult<PreparedResponse> {
    let mut prepared = from_python(&tuple.value, events)?;
    let response = &mut prepared.response;
    response.status = tuple.status()?;
    if let Some(headers) = &tuple.headers {
        match headers.cast::<PyDict>() {
            Ok(dict) => add_headers(response, dict.items().as_any())?,
            Err(_) => add_headers(response, headers)?,
        }
    }
    Ok(prepared)
}

/// The body of a `fanbus.Response` is bytes, an iterator, an event stream, or the path of a file.
fn from_response(value: &Bound<'_, PyAny>, events: &EventBox) -> PyResult<PreparedResponse> {
    let body = value.getattr("body")?;
    let mut prepared = PreparedResponse::from(response(
        status(&value.getattr("status")?)?,
        None,
        Bytes::new(),
    ));
    if let Ok(bytes) = body.cast::<PyBytes>() {
        prepared.response.body = ResponseBody::Bytes(loan::bytes_of(bytes, events));
    } else if is_iterator(&body)? {
        prepared.streamed = Some(StreamedBody {
            trailers: trailers_of(value, &mut prepared.response)?,
            iterator: body.unbind(),
        });
    } else if is_event_stream(&body)? {
        prepared.response.body = stream_of(&body)?;
    } else {
        prepared.response.body = ResponseBody::File(body.extract()?);
    }
    add_headers(&mut prepared.response, &value.getattr("headers")?)?;
    Ok(prepared)
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

    /// Sends the last bytes of the stream and ends it. Only the first call counts.
    fn set(&self, last: &[u8]) {
        self.0.set(last.to_vec().into());
    }
}

/// The body of a `fanbus.EventStream`, which has checked its fields but for the topic.
fn stream_of(value: &Bound<'_, PyAny>) -> PyResult<ResponseBody> {
    let topic: String = value.getattr("topic")?.extract()?;
    let topic = Topic::new(&topic).map_err(value_error)?;
    let options: EventStreamOptions = value.extract()?;
    let stream = EventStream {
        topic,
        retry_ms: options.retry_ms(),
        limits: options.limits(),
        last: options.last,
        last_event_id: options.last_event_id,
        end: Arc::clone(&value.getattr("_end")?.cast::<StreamEnd>()?.get().0),
    };
    Ok(ResponseBody::Events(Box::new(stream)))
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

/// Reads a header from a name and a value.
fn header_line(pair: &Bound<'_, PyAny>) -> PyResult<(HeaderName, HeaderValue)> {
    let (name, value): (String, String) = pair.extract()?;
    let bad = || PyValueError::new_err(format!("{name:?}: {value:?} cannot be a header."));
    let parsed: HeaderName = name.parse().map_err(|_| bad())?;
    let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| bad())?;
    Ok((parsed, value))
}

/// Reads headers from a mapping, or from an iterable of pairs.
fn header_lines(given: &Bound<'_, PyAny>) -> PyResult<Vec<(HeaderName, HeaderValue)>> {
    let pairs = match given.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => given.clone(),
    };
    let pairs = pairs.try_iter()?;
    pairs.map(|pair| header_line(&pair?)).collect()
}

/// Reads the argument of `request.send_early_hints`.
pub(super) fn early_hints(headers: &Bound<'_, PyAny>) -> PyResult<EarlyHints> {
    let mut hints = EarlyHints::default();
    for (name, value) in header_lines(headers)? {
        hints.add(name, value).map_err(value_error)?;
    }
    Ok(hints)
}

/// Reads the trailers of a response when its body has ended.
pub(super) fn trailers(lines: &Bound<'_, PyAny>) -> PyResult<trailers::Trailers> {
    let mut trailers = trailers::Trailers::default();
    for (name, value) in header_lines(lines)? {
        trailers.add(name, value).map_err(value_error)?;
    }
    Ok(trailers)
}

/// The source of the trailers of a streamed response. The names that a mapping has at the start are announced.
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
