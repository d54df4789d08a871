//! The reader that reads the body of a request as its endpoint needs it: as bytes, as a form, or in chunks. It
//! makes the response if the body is not accepted.

use std::rc::Rc;

use super::body_error::BodyError;
use super::budget::{Budget, Hold};
use super::form::{self, FormError};
use super::payload::Payload;
use super::refusals::{too_busy, too_large};
use super::request::{RequestContent, WireRequest};
use super::request_body::{BodyLimits, RequestBody};
use super::response::{Response, WireResponse};
use super::routes::HttpEndpoint;
use super::upload::{UploadSender, upload};
use super::worker::HttpWorker;
use actix_web::http::{StatusCode, header};

/// The body of a request, with the resources that it holds while the request runs.
pub(super) struct BodyInput {
    pub(super) body: RequestContent,
    /// Moves chunks to a handler that reads the body itself.
    pub(super) sender: Option<UploadSender>,
    /// The share of the memory for bodies.
    pub(super) _hold: Option<Hold>,
}

impl BodyInput {
    /// The input of a request without a body, or whose body the handler does not use.
    pub(super) fn empty() -> Self {
        Self {
            body: RequestContent::default(),
            sender: None,
            _hold: None,
        }
    }
}

/// Whether there is a body to read, or a handler that reads it itself.
pub(super) fn is_needed(request: &WireRequest, endpoint: &HttpEndpoint) -> bool {
    endpoint.streams_body || !matches!(request.payload, Payload::Empty)
}

/// Reads a body within its limit. A `Content-Length` above the limit is refused before anything is read.
pub(super) async fn read(
    request: &mut WireRequest,
    endpoint: &HttpEndpoint,
    worker: &HttpWorker,
    bodies: &Rc<Budget>,
) -> Result<BodyInput, WireResponse> {
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
    let limits = BodyLimits {
        bytes: limit,
        time: worker.config.body_timeout,
        bytes_per_second: worker.config.body_bytes_per_second,
    };
    let body = RequestBody::new(payload, limits);
    if endpoint.streams_body {
        let (upload, sender) = upload(body);
        return Ok(BodyInput {
            body: RequestContent::Stream(upload),
            sender: Some(sender),
            _hold: None,
        });
    }
    let (content, hold) = if endpoint.wants_request && form::is_form(&request.head) {
        let form = Box::pin(form::read(&request.head, body, bodies)).await;
        let (parts, hold) = form.map_err(|error| bad_form(error, limit))?;
        (RequestContent::Form(parts), hold)
    } else {
        let whole = body.read_whole(bodies).await;
        let (bytes, hold) = whole.map_err(|error| bad_body(error, limit))?;
        (RequestContent::Bytes(bytes), hold)
    };
    Ok(BodyInput {
        body: content,
        sender: None,
        _hold: Some(hold),
    })
}

fn bad_body(error: BodyError, limit: usize) -> WireResponse {
    match error {
        BodyError::TooLarge => too_large(limit),
        BodyError::TooSlow => Response::sentence(
            StatusCode::REQUEST_TIMEOUT,
            "The request's body did not arrive in time.",
        ),
        BodyError::NoMemory => too_busy(),
        BodyError::NoDisk => Response::sentence(
            StatusCode::INSUFFICIENT_STORAGE,
            "The server has no disk space for this body.",
        ),
        BodyError::Broken => Response::sentence(
            StatusCode::BAD_REQUEST,
            "The request's body ended early or was malformed.",
        ),
    }
}

fn bad_form(error: FormError, limit: usize) -> WireResponse {
    let (status, sentence) = match error {
        FormError::Body(error) => return bad_body(error, limit),
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
                "cannot store an upload in {}: {error}",
                std::env::temp_dir().display()
            );
            (
                StatusCode::INSUFFICIENT_STORAGE,
                "The server has no disk space for this upload.".to_owned(),
            )
        }
    };
    Response::sentence(status, sentence)
}
