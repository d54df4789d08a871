//! An application's routes with what the worker must know of each endpoint.

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

/// Made once, shared by everything in the worker.
#[derive(Clone, Default)]
pub struct Routes {
    /// Path and method to endpoint.
    pub router: Router,
    /// HTTP endpoints by number.
    pub http: Vec<HttpEndpoint>,
    /// WebSocket endpoints by number.
    pub websockets: Vec<WebSocketEndpoint>,
    /// A request that misses an HTTP route only by its trailing slash is sent there (307); else 404.
    pub redirect_slashes: bool,
    /// Responses are compressed for clients that take it, at this level.
    pub compression: Option<Level>,
    /// What pages of other origins may do. None: what browsers let them.
    pub cors: Option<Arc<Cors>>,
    /// The hosts that requests may name. None: all.
    pub hosts: Option<Arc<Hosts>>,
    /// Largest body of a request, in bytes, where its endpoint does not say; None: the server's limit.
    pub max_body_bytes: Option<usize>,
    /// Who answers what would be 404 or 405, with the status, the sentence and the methods that the path
    /// has as its values. None: nobody is called.
    pub fallback: Option<EndpointId>,
}

/// What the worker must know of an HTTP endpoint.
#[derive(Clone, Debug)]
pub struct HttpEndpoint {
    /// The handler looks at the request: it is copied for it.
    pub wants_request: bool,
    /// Largest body, in bytes; None: that of the application, or no limit if it is read piece by piece.
    pub max_body_bytes: Option<usize>,
    /// The handler reads the body itself, piece by piece.
    pub streams_body: bool,
    /// Its requests are answered with files, and nobody is called.
    pub folder: Option<Arc<Folder>>,
    /// What user code has answered is kept, and given to the next who ask for the same.
    pub turbo: Option<Turbo>,
}

/// How the answers of a turbo route are kept.
#[derive(Copy, Clone, Debug)]
pub struct Turbo {
    /// For so long. None: as long as the worker lives.
    pub ttl: Option<Duration>,
}

/// What the worker must know of a WebSocket endpoint.
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
