//! The limits of one worker's HTTP side. Built once, checked by whoever builds it, passed down.

use std::sync::Arc;
use std::time::Duration;

use super::access::AccessLog;
use super::head::Head;
use super::proxies::Proxies;

/// See each field.
#[derive(Clone, Debug)]
pub struct Config {
    /// A connection without a request for this long is closed.
    pub keep_alive: Duration,
    /// A client has this long for the handshake of TLS.
    pub handshake_timeout: Duration,
    /// A client has this long to send the head of a request (408 above it).
    pub head_timeout: Duration,
    /// A client has this long to send the whole body of a request (408 above it), and longer if much
    /// of it has come.
    pub body_timeout: Duration,
    /// A second more of it for each so many bytes that have come: the rate at which a body is never too
    /// slow.
    pub body_bytes_per_second: usize,
    /// A client that takes nothing of its response for this long is cut off. Sessions have their
    /// own limit.
    pub write_timeout: Duration,
    /// When TCP asks a peer that is silent whether it is there. None: never.
    pub keepalive: Option<TcpKeepAlive>,
    /// Largest body of a request, in bytes (413 above it).
    pub max_body_bytes: usize,
    /// Memory for the bodies of all requests, in bytes. Above it they go to files while they come.
    pub body_memory_bytes: usize,
    /// Memory for what waits for all clients of WebSockets and event streams, in bytes. Above it those for
    /// which the most waits are closed.
    pub queue_memory_bytes: usize,
    /// Memory for the messages of all clients that are not whole yet, in bytes. Above it reading waits.
    pub message_memory_bytes: usize,
    /// Connections that are served at once as HTTP; further ones wait in the accept queue. A
    /// connection that has become a WebSocket does not count any more.
    pub max_connections: usize,
    /// WebSockets of this worker, over all routes (503 above it).
    pub max_websockets: usize,
    /// Requests that user code handles at once (503 above it).
    pub max_requests: usize,
    /// Whose `X-Forwarded-` headers are believed. None: nobody's.
    pub proxies: Option<Proxies>,
    /// Where a proxy shows the application, as in `/chat`: it goes before paths that clients are sent to.
    pub root_path: String,
    /// Where is noted what was done. None: nowhere.
    pub access: Option<AccessLog>,
}

/// TCP's own question to a peer from which nothing has come: it is answered by the peer's system, not
/// by the program, and ends the connection if it is not.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct TcpKeepAlive {
    /// Silence until the first one.
    pub idle: Duration,
    /// The time between them.
    pub interval: Duration,
    /// So many without an answer end the connection.
    pub probes: u32,
}

impl TcpKeepAlive {
    /// The first question after `seconds`, and six more within the same time. None for 0.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use fanbus::http::config::TcpKeepAlive;
    ///
    /// let usual = TcpKeepAlive::after(60).expect("not zero");
    /// assert_eq!((usual.interval, usual.probes), (Duration::from_secs(10), 6));
    /// ```
    pub fn after(seconds: u32) -> Option<Self> {
        const PROBES: u32 = 6;
        let interval = u64::from(seconds.div_ceil(PROBES));
        (seconds > 0).then_some(Self {
            idle: Duration::from_secs(u64::from(seconds)),
            interval: Duration::from_secs(interval),
            probes: PROBES,
        })
    }
}

impl Config {
    /// Writes into the head where the request really comes from, if a trusted proxy says so.
    pub(super) fn resolve_peer(&self, head: &mut Arc<Head>) {
        if let Some(proxies) = &self.proxies {
            let head = Arc::get_mut(head).expect("no other owner yet");
            head.peer = proxies.peer(head);
        }
    }
}

impl Config {
    /// [`Config::handshake_timeout`], which no option changes.
    pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
    /// [`Config::max_body_bytes`] of an application that does not set it.
    pub const MAX_BODY_BYTES: usize = 16 << 20;
    /// [`Config::max_connections`], which no option changes.
    pub const MAX_CONNECTIONS: usize = 16_384;
    /// [`Config::max_websockets`], which no option changes.
    pub const MAX_WEBSOCKETS: usize = 65_536;
}

/// The defaults of `fanbus.config.Settings`, for tests: a test compares them.
impl Default for Config {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(30),
            handshake_timeout: Self::HANDSHAKE_TIMEOUT,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(120),
            // As much as any link for which the limits of sessions are tested, of 64 kbit/s and more.
            body_bytes_per_second: 4 << 10,
            write_timeout: Duration::from_secs(60),
            keepalive: TcpKeepAlive::after(60),
            max_body_bytes: Self::MAX_BODY_BYTES,
            body_memory_bytes: 256 << 20,
            queue_memory_bytes: 256 << 20,
            message_memory_bytes: 256 << 20,
            max_connections: Self::MAX_CONNECTIONS,
            max_websockets: Self::MAX_WEBSOCKETS,
            max_requests: usize::MAX,
            proxies: None,
            root_path: String::new(),
            access: None,
        }
    }
}
