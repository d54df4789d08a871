//! From a request's head to its endpoint, and back with the answer.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use bytes::Bytes;

use super::budget::{Budget, Hold};
use super::cache::{Cache, Found as Kept};
use super::compression::Compression;
use super::config::Config;
use super::deadlines::Deadlines;
use super::events;
use super::form::{self, FormError};
use super::handler::{Call, Handler};
use super::incoming::{Bounds, Incoming, Payload, Refusal};
use super::linger::Linger;
use super::missed::{self, Missed};
use super::replies::Replies;
use super::request::{Body, Request, WireRequest};
use super::response::{Body as ResponseBody, Response, WireResponse};
use super::router::Outcome;
use super::routes::{HttpEndpoint, Routes};
use super::sending;
use super::upload::{self, Pump, Upload};
use crate::actors::end_of_turn::EndOfTurn;
use crate::actors::limits::Limits;
use crate::actors::pulse::Pulse;
use crate::actors::shutdown::Shutdown;
use crate::ipc::Bus;

/// What all connections of one worker share. There is one, and no request copies it.
pub(super) struct Worker {
    pub routes: Arc<Routes>,
    pub config: Arc<Config>,
    /// The limits of each WebSocket endpoint, shared by its sessions.
    pub limits: Vec<Rc<Limits>>,
    pub handler: Rc<dyn Handler>,
    pub replies: Rc<Replies>,
    pub end_of_turn: Rc<EndOfTurn>,
    /// This worker's membership.
    pub bus: Bus,
    /// What compresses responses, if anything does.
    pub compression: Option<Compression>,
    /// What turbo routes have answered.
    pub cache: Rc<Cache>,
    /// Clients speak TLS.
    pub secure: bool,
    /// When to stop.
    pub shutdown: Shutdown,
    /// Signs of life.
    pub pulse: Arc<Pulse>,
    /// The times at which connections are looked at.
    pub deadlines: Rc<Deadlines>,
    /// Which connections stay open while the worker ends.
    pub linger: Rc<Linger>,
    /// The memory for the bodies of requests.
    pub bodies: Rc<Budget>,
    /// Lent to the connection that reads.
    pub scratch: RefCell<Box<[u8]>>,
}

/// Answers one HTTP request, and notes it if there is an access log. Bodies are held in `bodies`: the
/// worker's budget, or a share of it.
pub(super) async fn answer(
    worker: Rc<Worker>,
    request: WireRequest,
    bodies: Rc<Budget>,
) -> WireResponse {
    worker.pulse.count_request();
    let access = worker.config.access.as_ref();
    let begun = access.map(|access| access.begin(&request.method, &request.head));
    let crossing = worker.routes.cors.as_ref();
    let crossing = crossing.map(|cors| cors.of(&request.head));
    let preflight = crossing
        .as_ref()
        .and_then(|it| it.preflight(&request.method, &request.head));
    let mut response = match preflight {
        Some(response) => response,
        None => reply(&worker, request, &bodies).await,
    };
    if let Some(crossing) = crossing {
        crossing.mark(&mut response);
    }
    if let Some(begun) = begun {
        begun.answered(response.status.as_u16(), response.body.size());
    }
    response
}

async fn reply(worker: &Worker, mut request: WireRequest, bodies: &Rc<Budget>) -> WireResponse {
    let path = request.head.path();
    let found = match worker.routes.router.http(&request.method, path) {
        Outcome::Found(found) => Ok(found),
        Outcome::Elsewhere { path } => return moved(&request, &path, worker),
        // What the whole server can do (RFC 9110, 9.3.7) is not known to it.
        Outcome::NotFound if request.method == Method::OPTIONS && path == "*" => {
            return Response::without_content(StatusCode::NO_CONTENT);
        }
        Outcome::NotFound if worker.routes.router.websocket(path).is_some() => {
            return missed::upgrade_required().into_wire();
        }
        Outcome::NotFound => Err(Missed::path(path)),
        Outcome::MethodNotAllowed { allow } if request.method == Method::OPTIONS => {
            let allow = HeaderValue::try_from(allow).expect("method names are header-safe");
            return Response::without_content(StatusCode::NO_CONTENT)
                .with_header(header::ALLOW, allow);
        }
        Outcome::MethodNotAllowed { allow } => Err(Missed::method(allow)),
    };
    let is_missed = found.is_err();
    let (endpoint, values) = match (found, worker.routes.fallback) {
        (Ok(found), _) => (found.endpoint, found.values),
        (Err(missed), Some(fallback)) => (fallback, missed.into_values()),
        (Err(missed), None) => return missed.into_response().into_wire(),
    };
    let known = &worker.routes.http[endpoint.0 as usize];
    let compression = worker.compression.as_ref();
    if let Some(folder) = &known.folder {
        let response = folder.answer(values.first(), &request, compression).await;
        return match compression {
            Some(compression) => compression.whole(response, &request),
            None => response,
        };
    }
    let asking = match &known.turbo {
        None => None,
        Some(turbo) => match worker.cache.find(endpoint, &request.head).await {
            Kept::Known(response) => return sending::send(response, &request, compression).await,
            Kept::Asking(asking) => Some((asking, turbo.ttl)),
        },
    };
    let is_busy = || worker.replies.in_flight() >= worker.config.max_requests;
    if is_busy() || !worker.handler.has_room_for_request(endpoint) {
        return too_busy().into_wire();
    }
    let mut pump = None;
    let (body, _hold) = if is_missed || asking.is_some() {
        (Body::Bytes(Bytes::new()), None) // what comes with it is not what is asked for
    } else if known.streams_body {
        match open_stream(&mut request, known, worker) {
            Ok((upload, its_pump)) => {
                pump = Some(its_pump);
                (Body::Stream(upload), None)
            }
            Err(refusal) => return refusal.into_wire(),
        }
    } else {
        match read(&mut request, known, worker, bodies).await {
            Ok((body, hold)) => (body, hold),
            Err(refusal) => return refusal.into_wire(),
        }
    };
    if is_busy() {
        return too_busy().into_wire(); // others have come while its body did
    }
    let call_with = known.wants_request.then(|| {
        // The answer of a turbo route is GET's, whoever asks first.
        let method = match asking {
            Some(_) => Method::GET,
            None => request.method.clone(),
        };
        let head = Arc::clone(&request.head);
        Request { method, head, body }
    });
    let reply = worker.replies.expect();
    worker.handler.request(
        Call {
            endpoint,
            values,
            request: call_with,
        },
        reply.key,
    );
    worker.end_of_turn.request();
    let mut response = match &mut pump {
        None => reply.await,
        Some(pump) => {
            let mut reply = pin!(reply);
            poll_fn(|task| {
                let _ = Pin::new(&mut *pump).poll(task);
                reply.as_mut().poll(task)
            })
            .await
        }
    };
    if let Some((asking, ttl)) = asking {
        asking.keep(&mut response, ttl);
    }
    if request.method != Method::HEAD
        && let ResponseBody::Events(_) = response.body
    {
        return events::answer(worker, endpoint, response, &request.head).await;
    }
    let response = if sending::is_plain(&response) && compression.is_none() {
        response.into_wire()
    } else {
        sending::send(response, &request, compression).await
    };
    match pump {
        Some(pump) if !pump.is_over() => upload::while_read(response, pump),
        _ => response,
    }
}

/// The body of a request for a handler that reads it piece by piece.
fn open_stream(
    request: &mut WireRequest,
    endpoint: &HttpEndpoint,
    worker: &Worker,
) -> Result<(Upload, Pump), Response> {
    let limit = endpoint.max_body_bytes.unwrap_or(usize::MAX - 1);
    check_length(request, limit)?;
    let payload = std::mem::replace(&mut request.payload, Payload::Empty);
    Ok(upload::upload(Incoming::new(
        payload,
        bounds(worker, limit),
    )))
}

/// Refuses a body that is announced as larger than it may be, before anything of it is read.
fn check_length(request: &WireRequest, limit: usize) -> Result<(), Response> {
    let announced = request.head.text(&header::CONTENT_LENGTH);
    let length = announced.and_then(|value| value.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    Ok(())
}

fn bounds(worker: &Worker, bytes: usize) -> Bounds {
    Bounds {
        bytes,
        time: worker.config.body_timeout,
        bytes_per_second: worker.config.body_bytes_per_second,
    }
}

/// The whole body, if it keeps the limit, and what it holds of the memory for bodies. An announced length is
/// checked before anything is read.
async fn read(
    request: &mut WireRequest,
    endpoint: &HttpEndpoint,
    worker: &Worker,
    bodies: &Rc<Budget>,
) -> Result<(Body, Option<Hold>), Response> {
    if let Payload::Empty = request.payload {
        return Ok((Body::Bytes(Bytes::new()), None));
    }
    let asked_for = endpoint.max_body_bytes.or(worker.routes.max_body_bytes);
    let limit = asked_for.unwrap_or(worker.config.max_body_bytes);
    check_length(request, limit)?;
    let payload = std::mem::replace(&mut request.payload, Payload::Empty);
    let body = Incoming::new(payload, bounds(worker, limit));
    if endpoint.wants_request && form::is_form(&request.head) {
        return match form::read(&request.head, body, bodies).await {
            Ok((parts, hold)) => Ok((Body::Form(parts), Some(hold))),
            Err(error) => Err(bad_form(error, limit)),
        };
    }
    match body.whole(bodies).await {
        Ok((bytes, hold)) => Ok((Body::Bytes(bytes), Some(hold))),
        Err(why) => Err(bad_body(why, limit)),
    }
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
                "The form's fields are larger than the {} bytes that are taken here.",
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

/// To the same route with its own trailing slash, with the same method and body. Not for ever: what
/// is here tomorrow is not known.
fn moved(request: &WireRequest, path: &str, worker: &Worker) -> WireResponse {
    let missed = || {
        Missed::path(request.head.path())
            .into_response()
            .into_wire()
    };
    if !worker.routes.redirect_slashes {
        return missed();
    }
    let target = request.head.target();
    let query = &target[request.head.path().len()..];
    let location = format!("{}{path}{query}", worker.config.root_path);
    let sentence = format!("This is served at {location}");
    match HeaderValue::try_from(location) {
        Ok(location) => Response::sentence(StatusCode::TEMPORARY_REDIRECT, sentence)
            .with_header(header::LOCATION, location),
        Err(_) => missed(),
    }
}

pub(super) fn too_busy() -> Response {
    Response::sentence(
        StatusCode::SERVICE_UNAVAILABLE,
        "The server is busy. Try again in a moment.",
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

fn too_large(limit: usize) -> Response {
    Response::sentence(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("The request's body is larger than the {limit} bytes that are taken here."),
    )
}
