//! The service that finds the endpoint of a request, and makes the response that goes to the client.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};

use super::body_reader::{self, BodyInput};
use super::budget::Budget;
use super::cache::{CacheFill, CacheLookup};
use super::cors::CorsRequest;
use super::early_hints::HintQueue;
use super::event_response;
use super::file_response;
use super::folder::Folder;
use super::handler::Call;
use super::host::NOT_SERVED;
use super::memory_response;
use super::no_route::NoRoute;
use super::path::{Value, Values};
use super::refusals::{too_busy, upgrade_required};
use super::request::{Request, WireRequest};
use super::response::{Response, ResponseBody, WireBody, WireResponse};
use super::router::{EndpointId, RouteLookup, RouteMatch};
use super::trailers;
use super::upload;
use super::worker::HttpWorker;

/// The parts of a connection that the handling of one request needs.
pub(super) struct RequestContext<'c> {
    /// The memory for its body: the worker's budget, or a share of it.
    pub bodies: &'c Rc<Budget>,
    /// The queue for early hints.
    pub hints: &'c HintQueue,
}

/// Responds to one HTTP request, and records it if there is an access log.
///
/// A running request is one block of memory, as large as the largest of these futures: so state that few requests
/// need is boxed, and state that they share is borrowed.
pub(super) async fn respond(
    worker: &HttpWorker,
    request: &mut WireRequest,
    context: &RequestContext<'_>,
) -> WireResponse {
    worker.pulse.count_request();
    let access = worker.config.access.as_ref();
    let record = access.map(|access| Box::new(access.begin(&request.method, &request.head)));
    let cors_request = worker.routes.cors.as_ref();
    let cors_request = cors_request.map(|cors| cors.for_request(&request.head));
    let mut response = route(worker, request, cors_request.as_ref(), context).await;
    if let Some(cors_request) = cors_request {
        cors_request.mark(&mut response);
    }
    if let Some(record) = record {
        record.finish(response.status.as_u16(), response.body.size());
    }
    response
}

/// The endpoint of a request, and its path values.
struct RouteTarget {
    endpoint: EndpointId,
    values: Values,
    /// No route has the request's path and method: the endpoint is the fallback.
    is_fallback: bool,
}

/// Finds the endpoint of a request. The error is the response if there is none.
fn find(
    worker: &HttpWorker,
    request: &WireRequest,
    cors_request: Option<&CorsRequest>,
) -> Result<RouteTarget, WireResponse> {
    let preflight = cors_request.and_then(|it| it.preflight(&request.method, &request.head));
    if let Some(response) = preflight {
        return Err(response);
    }
    let hosts = worker.routes.hosts.as_ref();
    if hosts.is_some_and(|hosts| !hosts.serves(&request.head)) {
        return Err(Response::sentence(StatusCode::BAD_REQUEST, NOT_SERVED));
    }
    let path = request.head.path();
    let no_route = match worker.routes.router.http(&request.method, path) {
        RouteLookup::Match(RouteMatch {
            endpoint, values, ..
        }) => {
            return Ok(RouteTarget {
                endpoint,
                values,
                is_fallback: false,
            });
        }
        RouteLookup::OtherSlash { path } => return Err(redirect(request, &path, worker)),
        // The abilities of the whole server (RFC 9110, section 9.3.7) are not known.
        RouteLookup::NotFound if request.method == Method::OPTIONS && path == "*" => {
            return Err(Response::without_content(StatusCode::NO_CONTENT));
        }
        RouteLookup::NotFound if worker.routes.router.websocket(path).is_some() => {
            return Err(upgrade_required());
        }
        RouteLookup::NotFound => NoRoute::for_path(path),
        RouteLookup::MethodNotAllowed { allow } if request.method == Method::OPTIONS => {
            let allow = HeaderValue::try_from(allow).expect("method names are header-safe");
            let response = Response::without_content(StatusCode::NO_CONTENT);
            return Err(response.with_header(header::ALLOW, allow));
        }
        RouteLookup::MethodNotAllowed { allow } => NoRoute::for_method(allow),
    };
    match worker.routes.fallback {
        Some(endpoint) => Ok(RouteTarget {
            endpoint,
            values: no_route.into_values(),
            is_fallback: true,
        }),
        None => Err(no_route.into_response()),
    }
}

/// Responds from a folder, from the cache of turbo routes, or by the handler.
async fn route(
    worker: &HttpWorker,
    request: &mut WireRequest,
    cors_request: Option<&CorsRequest>,
    context: &RequestContext<'_>,
) -> WireResponse {
    let mut target = match find(worker, request, cors_request) {
        Ok(target) => target,
        Err(response) => return response,
    };
    let settings = &worker.routes.http[target.endpoint.0 as usize];
    if let Some(folder) = &settings.folder {
        let value = target.values.first();
        return Box::pin(respond_from_folder(worker, folder, value, request)).await;
    }
    let mut fill = None;
    if let Some(turbo) = &settings.turbo {
        let compression = worker.compression.as_ref();
        if let Some(response) = worker.cache.get(target.endpoint, &request.head) {
            return memory_response::respond(response, request, compression);
        }
        match worker.cache.look_up(target.endpoint, &request.head).await {
            CacheLookup::Hit(response) => {
                return memory_response::respond(response, request, compression);
            }
            CacheLookup::Miss(its) => fill = Some(Box::new((its, turbo.ttl))),
        }
    }
    call_handler(worker, request, &mut target, &mut fill, context).await
}

async fn respond_from_folder(
    worker: &HttpWorker,
    folder: &Folder,
    value: Option<&Value>,
    request: &WireRequest,
) -> WireResponse {
    let compression = worker.compression.as_ref();
    let response = folder.respond(value, request, compression).await;
    match compression {
        Some(compression) => compression.compress_whole(response, request),
        None => response,
    }
}

/// Has user code respond. `fill`: other requests may wait for the same response, which may be cached for a time.
async fn call_handler(
    worker: &HttpWorker,
    request: &mut WireRequest,
    target: &mut RouteTarget,
    fill: &mut Option<Box<(CacheFill, Option<Duration>)>>,
    context: &RequestContext<'_>,
) -> WireResponse {
    let endpoint = target.endpoint;
    let settings = &worker.routes.http[endpoint.0 as usize];
    let is_busy = || worker.replies.in_flight() >= worker.config.max_requests;
    if is_busy() || !worker.handler.has_capacity_for_request(endpoint) {
        return too_busy();
    }
    let mut input = BodyInput::empty();
    // The fallback and turbo routes do not read the body.
    if !target.is_fallback && fill.is_none() && body_reader::is_needed(request, settings) {
        match Box::pin(body_reader::read(request, settings, worker, context.bodies)).await {
            Ok(its) => input = its,
            Err(refusal) => return refusal,
        }
        if is_busy() {
            return too_busy(); // other requests arrived while the body did
        }
    }
    let handler_request = settings.wants_request.then(|| {
        // The cached response is that of GET, whichever method comes first.
        let method = match fill {
            Some(_) => Method::GET,
            None => request.method.clone(),
        };
        let head = Arc::clone(&request.head);
        let body = std::mem::take(&mut input.body);
        Request { method, head, body }
    });
    let reply = worker.replies.expect(context.hints);
    worker.handler.request(
        Call {
            endpoint,
            values: std::mem::take(&mut target.values),
            request: handler_request,
        },
        reply.key,
    );
    worker.turn_queue.request();
    let mut response = match &mut input.sender {
        None => reply.await,
        Some(sender) => Box::pin(sender.drive(reply)).await,
    };
    if response.trailers.is_some() && !trailers::are_accepted(&request.head) {
        response.drop_trailers();
    }
    if let Some((fill, ttl)) = fill.take().map(|its| *its) {
        fill.store(&mut response, ttl);
    }
    let is_head = request.method == Method::HEAD;
    let (body, head) = response.split();
    let compression = worker.compression.as_ref();
    let response = match body {
        ResponseBody::Events(stream) if !is_head => {
            let opened = event_response::respond(worker, endpoint, *stream, head, &request.head);
            return Box::pin(opened).await;
        }
        ResponseBody::File(path) => {
            Box::pin(file_response::respond(path, head, request, compression)).await
        }
        // The client of HEAD gets the head alone.
        ResponseBody::Events(_) => {
            let response = head.with_body(WireBody::Nothing);
            memory_response::respond(response, request, compression)
        }
        ResponseBody::Bytes(bytes) => {
            let response = head.with_body(WireBody::Bytes(bytes));
            memory_response::respond(response, request, compression)
        }
        ResponseBody::Stream(stream) => {
            let response = head.with_body(WireBody::Stream(stream));
            memory_response::respond(response, request, compression)
        }
    };
    match input.sender {
        Some(sender) if !sender.is_done() => upload::send_during_response(response, sender),
        _ => response,
    }
}

/// Redirects to the same route with its own trailing slash, with the same method and body. Not permanently: the
/// routes may change.
fn redirect(request: &WireRequest, path: &str, worker: &HttpWorker) -> WireResponse {
    let no_route = || NoRoute::for_path(request.head.path()).into_response();
    if !worker.routes.redirect_slashes {
        return no_route();
    }
    let target = request.head.target();
    let query = &target[request.head.path().len()..];
    let location = format!("{}{path}{query}", worker.config.root_path);
    let sentence = format!("This is served at {location}");
    match HeaderValue::try_from(location) {
        Ok(location) => Response::sentence(StatusCode::TEMPORARY_REDIRECT, sentence)
            .with_header(header::LOCATION, location),
        Err(_) => no_route(),
    }
}
