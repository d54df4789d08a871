//! From a request's head to its endpoint, and back with the answer.

use std::rc::Rc;
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::error::PayloadError;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{StatusCode, Version};
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, HttpResponse};
use tokio::time::timeout;

use super::config::Config;
use super::handler::{Call, Handler};
use super::proxies::Origin;
use super::replies::Replies;
use super::request::Request;
use super::response::Response;
use super::router::{Found, Outcome};
use super::routes::Routes;
use crate::actors::end_of_turn::EndOfTurn;
use crate::actors::limits::Limits;

/// What all connections of one worker share.
#[derive(Clone)]
pub(super) struct Worker {
    pub routes: Arc<Routes>,
    pub config: Arc<Config>,
    /// The limits of each WebSocket endpoint, shared by its sessions.
    pub limits: Vec<Rc<Limits>>,
    pub handler: Rc<dyn Handler>,
    pub replies: Rc<Replies>,
    pub end_of_turn: Rc<EndOfTurn>,
    /// Clients speak TLS.
    pub secure: bool,
}

/// Answers one HTTP request, and notes it if there is an access log.
pub(super) async fn answer(worker: Worker, request: HttpRequest, body: Payload) -> HttpResponse {
    let origin = worker.config.origin(request.head(), worker.secure);
    let access = worker.config.access.as_ref();
    let begun = access.map(|access| access.begin(request.head(), origin));
    let response = reply(worker, request, origin, body).await;
    if let Some(begun) = begun {
        begun.answered(response.status().as_u16(), response.body().size());
    }
    response
}

async fn reply(
    worker: Worker,
    request: HttpRequest,
    origin: Origin,
    body: Payload,
) -> HttpResponse {
    let found = match worker.routes.router.http(request.method(), request.path()) {
        Outcome::Found(found) => found,
        Outcome::NotFound if worker.routes.router.websocket(request.path()).is_some() => {
            return upgrade_required().into_http();
        }
        Outcome::NotFound => return not_found(request.path()).into_http(),
        Outcome::MethodNotAllowed { allow } => return method_not_allowed(&allow).into_http(),
    };
    let is_busy = || worker.replies.in_flight() >= worker.config.max_requests;
    if is_busy() || !worker.handler.has_room() {
        return too_busy().into_http();
    }
    let body = match read(&request, body, &worker.config).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_http(),
    };
    if is_busy() {
        return too_busy().into_http(); // others have come while its body did
    }
    let Found {
        endpoint, values, ..
    } = found;
    let wants_request = worker.routes.http[endpoint.0 as usize].wants_request;
    let request = wants_request.then(|| Request::new(request.head(), origin, body));
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
    reply.await.into_http()
}

/// The whole body, if it keeps the limit. An announced length is checked before anything is read.
async fn read(request: &HttpRequest, body: Payload, config: &Config) -> Result<Bytes, Response> {
    let limit = config.max_body_bytes;
    let headers = request.headers();
    let announced = headers.get(header::CONTENT_LENGTH);
    // HTTP/2 has frames for a body, and need not announce it.
    let is_framed = request.version() == Version::HTTP_2;
    if announced.is_none() && !is_framed && !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(Bytes::new());
    }
    let length = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    let Ok(read) = timeout(config.body_timeout, body.to_bytes_limited(limit)).await else {
        return Err(Response::sentence(
            StatusCode::REQUEST_TIMEOUT,
            "The request's body did not come in time.",
        ));
    };
    match read {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_of_connection_limit(&error) => Err(too_busy()),
        Ok(Err(_)) => Err(Response::sentence(
            StatusCode::BAD_REQUEST,
            "The request's body ended early or was malformed.",
        )),
        Err(_) => Err(too_large(limit)),
    }
}

/// The bodies of this one's connection take all the memory that a connection may have.
fn is_of_connection_limit(error: &actix_web::Error) -> bool {
    matches!(error.as_error(), Some(PayloadError::Overflow))
}

fn not_found(path: &str) -> Response {
    Response::sentence(
        StatusCode::NOT_FOUND,
        format!("Nothing is served at {path}"),
    )
}

fn method_not_allowed(allow: &str) -> Response {
    let sentence = format!("This address answers only {allow}.");
    let value = HeaderValue::from_str(allow).expect("method names are header-safe");
    Response::sentence(StatusCode::METHOD_NOT_ALLOWED, sentence).with_header(header::ALLOW, value)
}

fn upgrade_required() -> Response {
    Response::sentence(
        StatusCode::UPGRADE_REQUIRED,
        "This is a WebSocket endpoint: connect to it with a WebSocket client.",
    )
    .with_header(header::UPGRADE, HeaderValue::from_static("websocket"))
    .with_header(
        header::SEC_WEBSOCKET_VERSION,
        HeaderValue::from_static("13"),
    )
}

fn too_busy() -> Response {
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
