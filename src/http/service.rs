//! From a request's head to its endpoint, and back with the answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};

use super::body::{self, Read};
use super::budget::Budget;
use super::cache::{Asking, Cache, Found as Kept};
use super::compression::Compression;
use super::config::Config;
use super::cors::Crossing;
use super::deadlines::Deadlines;
use super::early_hints::GivenHints;
use super::events;
use super::folder::Folder;
use super::handler::{Call, Handler};
use super::host::NOT_SERVED;
use super::linger::Linger;
use super::missed::{self, Missed};
use super::path::{Value, Values};
use super::replies::Replies;
use super::request::{Request, WireRequest};
use super::response::{Body as ResponseBody, Response, WireResponse};
use super::router::{EndpointId, Found, Outcome};
use super::routes::Routes;
use super::sending;
use super::trailers;
use super::upload;
use crate::actors::hub::Requests;
use crate::actors::limits::Limits;
use crate::actors::pulse::Pulse;
use crate::actors::shutdown::Shutdown;
use crate::actors::turn_queue::TurnQueue;
use crate::ipc::Bus;

/// What all connections of one worker share. There is one, and no request copies it.
pub(super) struct Worker {
    pub routes: Arc<Routes>,
    pub config: Arc<Config>,
    /// The limits of each WebSocket endpoint, shared by its sessions.
    pub limits: Vec<Rc<Limits>>,
    pub handler: Rc<dyn Handler>,
    pub replies: Rc<Replies>,
    pub requests: Rc<Requests>,
    pub turn_queue: Rc<TurnQueue>,
    /// This worker's membership.
    pub bus: Bus,
    /// What compresses responses, if anything does.
    pub compression: Option<Compression>,
    /// What turbo routes have answered.
    pub cache: Rc<Cache>,
    /// Clients speak TLS.
    pub is_secure: bool,
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
    /// The memory for responses that wait for clients of HTTP/2.
    pub responses: Rc<Budget>,
    /// Lent to the connection that reads.
    pub scratch: RefCell<Box<[u8]>>,
}

/// What a connection gives to the answering of a request.
pub(super) struct Given<'g> {
    /// The memory for its body: the worker's budget, or a share of it.
    pub bodies: &'g Rc<Budget>,
    /// Where early hints go.
    pub hints: &'g GivenHints,
}

/// Answers one HTTP request, and notes it if there is an access log.
///
/// A request under way is one block of memory, as large as the largest of these futures: what few requests need
/// is boxed, and what they share is lent.
pub(super) async fn answer(
    worker: &Worker,
    request: &mut WireRequest,
    given: &Given<'_>,
) -> WireResponse {
    worker.pulse.count_request();
    let access = worker.config.access.as_ref();
    let begun = access.map(|access| Box::new(access.begin(&request.method, &request.head)));
    let crossing = worker.routes.cors.as_ref();
    let crossing = crossing.map(|cors| cors.of(&request.head));
    let mut response = reply(worker, request, crossing.as_ref(), given).await;
    if let Some(crossing) = crossing {
        crossing.mark(&mut response);
    }
    if let Some(begun) = begun {
        begun.answered(response.status.as_u16(), response.body.size());
    }
    response
}

/// The endpoint of a request, and what it is called with.
struct Route {
    endpoint: EndpointId,
    values: Values,
    /// No route has the request's path and method: user code may answer instead.
    is_missed: bool,
}

/// Finds the endpoint of a request. The error is the answer where there is none.
fn find(
    worker: &Worker,
    request: &WireRequest,
    crossing: Option<&Crossing>,
) -> Result<Route, WireResponse> {
    let preflight = crossing.and_then(|it| it.preflight(&request.method, &request.head));
    if let Some(response) = preflight {
        return Err(response);
    }
    let hosts = worker.routes.hosts.as_ref();
    if hosts.is_some_and(|hosts| !hosts.serve(&request.head)) {
        return Err(Response::sentence(StatusCode::BAD_REQUEST, NOT_SERVED));
    }
    let path = request.head.path();
    let missed = match worker.routes.router.http(&request.method, path) {
        Outcome::Found(Found {
            endpoint, values, ..
        }) => {
            return Ok(Route {
                endpoint,
                values,
                is_missed: false,
            });
        }
        Outcome::Elsewhere { path } => return Err(moved(request, &path, worker)),
        // What the whole server can do (RFC 9110, 9.3.7) is not known to it.
        Outcome::NotFound if request.method == Method::OPTIONS && path == "*" => {
            return Err(Response::without_content(StatusCode::NO_CONTENT));
        }
        Outcome::NotFound if worker.routes.router.websocket(path).is_some() => {
            return Err(missed::upgrade_required().into_wire());
        }
        Outcome::NotFound => Missed::path(path),
        Outcome::MethodNotAllowed { allow } if request.method == Method::OPTIONS => {
            let allow = HeaderValue::try_from(allow).expect("method names are header-safe");
            let response = Response::without_content(StatusCode::NO_CONTENT);
            return Err(response.with_header(header::ALLOW, allow));
        }
        Outcome::MethodNotAllowed { allow } => Missed::method(allow),
    };
    match worker.routes.fallback {
        Some(endpoint) => Ok(Route {
            endpoint,
            values: missed.into_values(),
            is_missed: true,
        }),
        None => Err(missed.into_response().into_wire()),
    }
}

async fn reply(
    worker: &Worker,
    request: &mut WireRequest,
    crossing: Option<&Crossing>,
    given: &Given<'_>,
) -> WireResponse {
    let mut route = match find(worker, request, crossing) {
        Ok(route) => route,
        Err(response) => return response,
    };
    let known = &worker.routes.http[route.endpoint.0 as usize];
    if let Some(folder) = &known.folder {
        let value = route.values.first();
        return Box::pin(from_folder(worker, folder, value, request)).await;
    }
    let mut asking = None;
    if let Some(turbo) = &known.turbo {
        let compression = worker.compression.as_ref();
        if let Some(response) = worker.cache.known(route.endpoint, &request.head) {
            return sending::from_memory(response, request, compression);
        }
        match worker.cache.find(route.endpoint, &request.head).await {
            Kept::Known(response) => {
                return sending::from_memory(response, request, compression);
            }
            Kept::Asking(its) => asking = Some(Box::new((its, turbo.ttl))),
        }
    }
    ask(worker, request, &mut route, &mut asking, given).await
}

async fn from_folder(
    worker: &Worker,
    folder: &Folder,
    value: Option<&Value>,
    request: &WireRequest,
) -> WireResponse {
    let compression = worker.compression.as_ref();
    let response = folder.answer(value, request, compression).await;
    match compression {
        Some(compression) => compression.whole(response, request),
        None => response,
    }
}

/// Has user code answer. `asking`: others wait for the same answer, which may be kept for a time.
async fn ask(
    worker: &Worker,
    request: &mut WireRequest,
    route: &mut Route,
    asking: &mut Option<Box<(Asking, Option<Duration>)>>,
    given: &Given<'_>,
) -> WireResponse {
    let endpoint = route.endpoint;
    let known = &worker.routes.http[endpoint.0 as usize];
    let is_busy = || worker.replies.in_flight() >= worker.config.max_requests;
    if is_busy() || !worker.handler.has_room_for_request(endpoint) {
        return too_busy().into_wire();
    }
    let mut read = Read::nothing();
    // What comes with the others is not what is asked for.
    if !route.is_missed && asking.is_none() && body::is_wanted(request, known) {
        match Box::pin(body::read(request, known, worker, given.bodies)).await {
            Ok(its) => read = its,
            Err(refusal) => return refusal.into_wire(),
        }
        if is_busy() {
            return too_busy().into_wire(); // others have come while its body did
        }
    }
    let call_with = known.wants_request.then(|| {
        // The answer of a turbo route is GET's, whoever asks first.
        let method = match asking {
            Some(_) => Method::GET,
            None => request.method.clone(),
        };
        let head = Arc::clone(&request.head);
        let body = std::mem::take(&mut read.body);
        Request { method, head, body }
    });
    let reply = worker.replies.expect(given.hints);
    worker.handler.request(
        Call {
            endpoint,
            values: std::mem::take(&mut route.values),
            request: call_with,
        },
        reply.key,
    );
    worker.turn_queue.request();
    let mut response = match &mut read.pump {
        None => reply.await,
        Some(pump) => Box::pin(pump.drive(reply)).await,
    };
    if response.trailers.is_some() && !trailers::are_taken(&request.head) {
        response.drop_trailers();
    }
    if let Some((asking, ttl)) = asking.take().map(|its| *its) {
        asking.keep(&mut response, ttl);
    }
    if request.method != Method::HEAD
        && let ResponseBody::Events(_) = response.body
    {
        return Box::pin(events::answer(worker, endpoint, response, &request.head)).await;
    }
    let compression = worker.compression.as_ref();
    let (body, head) = response.split();
    let response = match body {
        ResponseBody::File(path) => {
            Box::pin(sending::from_disk(path, head, request, compression)).await
        }
        body => sending::from_memory(head.with_body(body), request, compression),
    };
    match read.pump {
        Some(pump) if !pump.is_over() => upload::while_read(response, pump),
        _ => response,
    }
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
