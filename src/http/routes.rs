//! The routes of an application, and the settings of each endpoint.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::compressor::Level;
use super::cors::Cors;
use super::folder::Folder;
use super::host::Hosts;
use super::router::{EndpointId, Router};
use super::websocket::origin::Origins;
use super::websocket::subprotocol::Subprotocol;
use crate::actors::limits::Limits;
use crate::actors::protocol::Accept;

/// The routes and settings, which are made once and shared by the whole worker.
#[derive(Clone, Default)]
pub struct Routes {
    /// The router from method and path to endpoint.
    pub router: Router,
    /// HTTP endpoints by number.
    pub http: Vec<HttpEndpoint>,
    /// WebSocket endpoints by number.
    pub websockets: Vec<WebSocketEndpoint>,
    /// Whether a request that differs from an HTTP route only by its trailing slash is redirected (307) or refused
    /// (404).
    pub redirect_slashes: bool,
    /// The level of compression for clients that accept it. None: responses are not compressed.
    pub compression: Option<Level>,
    /// The CORS rules. None: browsers apply the same-origin policy.
    pub cors: Option<Arc<Cors>>,
    /// The hosts that requests may name. None: all hosts.
    pub hosts: Option<Arc<Hosts>>,
    /// Largest body of a request, in bytes, unless its endpoint has a limit of its own. None: the server's limit.
    pub max_body_bytes: Option<usize>,
    /// The endpoint that is called instead of the built-in 404 or 405 response. Its path values are the status, the
    /// sentence and the methods of the path. None: the built-in response is sent.
    pub fallback: Option<EndpointId>,
}

/// The settings of an HTTP endpoint.
#[derive(Clone, Debug)]
pub struct HttpEndpoint {
    /// Whether the handler uses the request: then it is copied for the handler.
    pub wants_request: bool,
    /// Largest body, in bytes. None: the limit of the application, or no limit if the handler reads the body in
    /// chunks.
    pub max_body_bytes: Option<usize>,
    /// Whether the handler itself reads the body, in chunks.
    pub streams_body: bool,
    /// The folder that its responses come from, without user code.
    pub folder: Option<Arc<Folder>>,
    /// The settings of a turbo route, whose responses are cached.
    pub turbo: Option<Turbo>,
}

/// How the responses of a turbo route are cached.
#[derive(Copy, Clone, Debug)]
pub struct Turbo {
    /// The time for which a response is cached. None: as long as the worker runs.
    pub ttl: Option<Duration>,
}

/// The settings of a WebSocket endpoint.
#[derive(Clone, Debug)]
pub struct WebSocketEndpoint {
    /// Makes the protocol of each session.
    pub accept: Arc<dyn Accept>,
    /// User code accepts or rejects each client.
    pub needs_admission: bool,
    /// A turbo route with hooks: user code is notified when a session opens and when it closes.
    pub has_hooks: bool,
    /// The limits of its sessions.
    pub limits: Limits,
    /// Whose pages may connect.
    pub origins: Origins,
    /// Subprotocols it speaks, the preferred one first.
    pub subprotocols: Vec<Subprotocol>,
    /// Clients that offer permessage-deflate get it.
    pub compression: bool,
}

impl fmt::Debug for Routes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Routes")
            .field("http", &self.http.len())
            .field("websockets", &self.websockets.len())
            .finish_non_exhaustive()
    }
}
