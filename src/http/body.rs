//! The body of a request, as its endpoint wants it: whole, as a form, or piece by piece. Or the answer to one
//! that is not accepted.

use std::rc::Rc;

use super::budget::{Budget, Hold};
use super::form::{self, FormError};
use super::incoming::{Bounds, Incoming, Payload, Refusal};
use super::request::{Body, WireRequest};
use super::response::Response;
use super::routes::HttpEndpoint;
use super::service::{Worker, too_busy};
use super::upload::{Pump, upload};
use actix_web::http::{StatusCode, header};

/// A body, and what it needs as long as its request is under way.
pub(super) struct Read {
    pub(super) body: Body,
    /// Brings the pieces of one that the handler reads itself.
    pub(super) pump: Option<Pump>,
    /// What it holds of the memory for bodies.
    pub(super) _hold: Option<Hold>,
}

impl Read {
    /// There is no body, or nobody wants it.
    pub(super) fn nothing() -> Self {
        Self {
            body: Body::default(),
            pump: None,
            _hold: None,
        }
    }
}

/// Is there a body to read, or a handler that reads itself?
pub(super) fn is_wanted(request: &WireRequest, endpoint: &HttpEndpoint) -> bool {
    endpoint.streams_body || !matches!(request.payload, Payload::Empty)
}

/// Reads a body, if it keeps its limit. An announced length is checked before anything is read.
pub(super) async fn read(
    request: &mut WireRequest,
    endpoint: &HttpEndpoint,
    worker: &Worker,
    bodies: &Rc<Budget>,
) -> Result<Read, Response> {
    let asked_for = endpoint.max_body_bytes;
    let limit = if endpoint.streams_body {
        asked_for.unwrap_or(usize::MAX - 1)
    } else {
        let general = worker.routes.max_body_bytes;
        asked_for
            .or(general)
            .unwrap_or(worker.config.max_body_bytes)
    };
    let announced = request.head.text(&header::CONTENT_LENGTH);
    let length = announced.and_then(|value| value.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let payload = std::mem::replace(&mut request.payload, Payload::Empty);
    let bounds = Bounds {
        bytes: limit,
        time: worker.config.body_timeout,
        bytes_per_second: worker.config.body_bytes_per_second,
    };
    let incoming = Incoming::new(payload, bounds);
    if endpoint.streams_body {
        let (upload, pump) = upload(incoming);
        return Ok(Read {
            body: Body::Stream(upload),
            pump: Some(pump),
            _hold: None,
        });
    }
    let (body, hold) = if endpoint.wants_request && form::is_form(&request.head) {
        let form = Box::pin(form::read(&request.head, incoming, bodies)).await;
        let (parts, hold) = form.map_err(|error| bad_form(error, limit))?;
        (Body::Form(parts), hold)
    } else {
        let whole = incoming.whole(bodies).await;
        let (bytes, hold) = whole.map_err(|why| bad_body(why, limit))?;
        (Body::Bytes(bytes), hold)
    };
    Ok(Read {
        body,
        pump: None,
        _hold: Some(hold),
    })
}

fn bad_body(why: Refusal, limit: usize) -> Response {
    match why {
        Refusal::TooLarge => too_large(limit),
        Refusal::TooSlow => Response::sentence(
            StatusCode::REQUEST_TIMEOUT,
            "The request's body did not come in time.",
        ),
        Refusal::Crowded => too_busy(),
        Refusal::NoDisk => Response::sentence(
            StatusCode::INSUFFICIENT_STORAGE,
            "The server has no room for this body.",
        ),
        Refusal::Broken => Response::sentence(
            StatusCode::BAD_REQUEST,
            "The request's body ended early or was malformed.",
        ),
    }
}

fn bad_form(error: FormError, limit: usize) -> Response {
    let (status, sentence) = match error {
        FormError::Refused(why) => return bad_body(why, limit),
        FormError::Malformed(why) => (
            StatusCode::BAD_REQUEST,
            format!("The form is malformed: {}.", why.trim_end_matches('.')),
        ),
        FormError::TooManyParts => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The form has more than {} parts.", form::MAX_PARTS),
        ),
        FormError::TextTooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "The form's fields are larger than the limit of {} bytes.",
                form::MAX_MEMORY_BYTES
            ),
        ),
        FormError::Disk(error) => {
            log::error!(
                "cannot keep an upload in {}: {error}",
                std::env::temp_dir().display()
            );
            (
                StatusCode::INSUFFICIENT_STORAGE,
                "The server has no room for this upload.".to_owned(),
            )
        }
    };
    Response::sentence(status, sentence)
}

fn too_large(limit: usize) -> Response {
    Response::sentence(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("The request's body is larger than the limit of {limit} bytes."),
    )
}
