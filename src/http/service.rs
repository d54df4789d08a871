//! From a request's head to its endpoint, and back with the answer.

use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{ConnectionType, Method, StatusCode, Version};
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};

use super::cache::{Cache, Found as Kept};
use super::compression::Compression;
use super::config::Config;
use super::events;
use super::form::{self, FormError};
use super::handler::{Call, Handler};
use super::host::has_possible_host;
use super::incoming::{Bounds, Incoming, Refusal, Share};
use super::linger;
use super::missed::{self, Missed};
use super::proxies::Origin;
use super::replies::Replies;
use super::request::{Body, Request};
use super::response::{Body as ResponseBody, Response};
use super::router::Outcome;
use super::routes::{HttpEndpoint, Routes};
use super::sending;
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
}

/// Answers one HTTP request, and notes it if there is an access log. While the worker ends, the
/// connection ends with the answer.
pub(super) async fn answer(
    worker: Rc<Worker>,
    request: HttpRequest,
    body: Payload,
) -> HttpResponse {
    worker.pulse.count_request();
    linger::asked();
    let origin = worker.config.origin(request.head(), worker.secure);
    let access = worker.config.access.as_ref();
    let begun = access.map(|access| access.begin(request.head(), origin));
    let crossing = worker.routes.cors.as_ref();
    let crossing = crossing.map(|cors| cors.of(request.headers()));
    let preflight = crossing.as_ref().and_then(|it| it.preflight(&request));
    let mut response = match preflight {
        Some(response) => response,
        None if !has_possible_host(request.uri(), request.headers()) => {
            impossible_host().into_http()
        }
        None => reply(&worker, request, origin, body).await,
    };
    if let Some(crossing) = crossing {
        crossing.mark(response.headers_mut());
    }
    if worker.shutdown.is_triggered() {
        response
            .head_mut()
            .set_connection_type(ConnectionType::Close);
    }
    if let Some(begun) = begun {
        begun.answered(response.status().as_u16(), response.body().size());
    }
    response
}

async fn reply(
    worker: &Worker,
    request: HttpRequest,
    origin: Origin,
    body: Payload,
) -> HttpResponse {
    let found = match worker.routes.router.http(request.method(), request.path()) {
        Outcome::Found(found) => Ok(found),
        Outcome::Elsewhere { path } => return moved(&request, &path, worker),
        // What the whole server can do (RFC 9110, 9.3.7) is not known to it.
        Outcome::NotFound if request.method() == Method::OPTIONS && request.path() == "*" => {
            return HttpResponse::NoContent().finish();
        }
        Outcome::NotFound if worker.routes.router.websocket(request.path()).is_some() => {
            return missed::upgrade_required().into_http();
        }
        Outcome::NotFound => Err(Missed::path(request.path())),
        Outcome::MethodNotAllowed { allow } if request.method() == Method::OPTIONS => {
            return HttpResponse::NoContent()
                .insert_header((header::ALLOW, allow))
                .finish();
        }
        Outcome::MethodNotAllowed { allow } => Err(Missed::method(allow)),
    };
    let is_missed = found.is_err();
    let (endpoint, values) = match (found, worker.routes.fallback) {
        (Ok(found), _) => (found.endpoint, found.values),
        (Err(missed), Some(fallback)) => (fallback, missed.into_values()),
        (Err(missed), None) => return missed.into_response().into_http(),
    };
    let known = &worker.routes.http[endpoint.0 as usize];
    let compression = worker.compression.as_ref();
    if let Some(folder) = &known.folder {
        let response = folder.answer(values.first(), &request).await;
        return match compression {
            Some(compression) => compression.whole(response, &request),
            None => response,
        };
    }
    let asking = match &known.turbo {
        None => None,
        Some(turbo) => match worker.cache.find(endpoint, &request).await {
            Kept::Known(response) => return sending::send(response, &request, compression).await,
            Kept::Asking(asking) => Some((asking, turbo.ttl)),
        },
    };
    let is_busy = || worker.replies.in_flight() >= worker.config.max_requests;
    if is_busy() || !worker.handler.has_room_for_request(endpoint) {
        return too_busy().into_http();
    }
    let body = if is_missed || asking.is_some() {
        Body::Bytes(Bytes::new()) // what comes with it is not what is asked for
    } else {
        match read(&request, body, known, worker).await {
            Ok(body) => body,
            Err(refusal) => return refusal.into_http(),
        }
    };
    if is_busy() {
        return too_busy().into_http(); // others have come while its body did
    }
    let http_request = request;
    let mut request = known
        .wants_request
        .then(|| Request::new(http_request.head(), origin, body));
    if let (Some(_), Some(request)) = (&asking, &mut request) {
        request.method = Method::GET; // the answer is GET's, whoever asks first
    }
    let reply = worker.replies.expect();
    worker.handler.request(
        Call {
            endpoint,
            values,
            request,
        },
        reply.key,
    );
    worker.end_of_turn.request();
    let mut response = reply.await;
    if let Some((asking, ttl)) = asking {
        asking.keep(&mut response, ttl);
    }
    if *http_request.method() != Method::HEAD
        && let ResponseBody::Events(_) = response.body
    {
        return events::answer(worker, endpoint, response, &http_request).await;
    }
    if sending::is_plain(&response) && compression.is_none() {
        return response.into_http();
    }
    sending::send(response, &http_request, compression).await
}

/// The whole body, if it keeps the limit. An announced length is checked before anything is read.
async fn read(
    request: &HttpRequest,
    body: Payload,
    endpoint: &HttpEndpoint,
    worker: &Worker,
) -> Result<Body, Response> {
    let config = &worker.config;
    let headers = request.headers();
    let announced = headers.get(header::CONTENT_LENGTH);
    // HTTP/2 has frames for a body, and need not announce it.
    let is_framed = request.version() == Version::HTTP_2;
    if announced.is_none() && !is_framed && !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(Body::Bytes(Bytes::new()));
    }
    let asked_for = endpoint.max_body_bytes.or(worker.routes.max_body_bytes);
    let limit = asked_for.unwrap_or(config.max_body_bytes);
    let length = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let bounds = Bounds {
        bytes: limit,
        time: config.body_timeout,
        bytes_per_second: config.body_bytes_per_second,
    };
    let body = Incoming::new(body, bounds);
    if endpoint.wants_request && form::is_form(headers) {
        let share = request.extensions().get::<Share>().cloned();
        let parts = form::read(headers, body, share).await;
        return parts
            .map(Body::Form)
            .map_err(|error| bad_form(error, limit));
    }
    let whole = body.whole().await;
    whole.map(Body::Bytes).map_err(|why| bad_body(why, limit))
}

fn bad_body(why: Refusal, limit: usize) -> Response {
    match why {
        Refusal::TooLarge => too_large(limit),
        Refusal::TooSlow => Response::sentence(
            StatusCode::REQUEST_TIMEOUT,
            "The request's body did not come in time.",
        ),
        Refusal::Crowded => too_busy(),
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
fn moved(request: &HttpRequest, path: &str, worker: &Worker) -> HttpResponse {
    if !worker.routes.redirect_slashes {
        return Missed::path(request.path()).into_response().into_http();
    }
    let query = request.uri().query();
    let path = format!("{}{path}", worker.config.root_path);
    let location = query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    let sentence = format!("This is served at {location}");
    match HeaderValue::try_from(location) {
        Ok(location) => Response::sentence(StatusCode::TEMPORARY_REDIRECT, sentence)
            .with_header(header::LOCATION, location)
            .into_http(),
        Err(_) => Missed::path(request.path()).into_response().into_http(),
    }
}

fn impossible_host() -> Response {
    let sentence = "The Host of this request cannot be one, or is not that of its target.";
    Response::sentence(StatusCode::BAD_REQUEST, sentence)
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
