//! The configuration of one worker's HTTP side: its limits and time-outs. The caller that makes it checks it.

use std::sync::Arc;
use std::time::Duration;

use super::access::AccessLog;
use super::head::Head;
use super::proxies::Proxies;

/// The limits and time-outs of a worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// A connection without a request for this long is closed.
    pub keep_alive: Duration,
    /// A client has this long for the TLS handshake.
    pub handshake_timeout: Duration,
    /// A client has this long to send the head of a request (408 above it).
    pub head_timeout: Duration,
    /// A client has this long to send the body of a request (408 above it), and longer if much of it has arrived.
    pub body_timeout: Duration,
    /// The time limit of a body grows by one second for each this many bytes that have arrived: a body at this rate
    /// is never too slow.
    pub body_bytes_per_second: usize,
    /// A client that takes nothing of its response for this long is disconnected. Sessions have their own limit.
    pub write_timeout: Duration,
    /// When TCP probes a silent peer. None: never.
    pub keepalive: Option<TcpKeepAlive>,
    /// Largest body of a request, in bytes (413 above it).
    pub max_body_bytes: usize,
    /// Memory for the bodies of all requests, in bytes. Above it bodies go to files while they arrive.
    pub body_memory_bytes: usize,
    /// Memory for the outbound queues of all WebSockets and event streams, in bytes. Above it the sessions with the
    /// longest queues are closed.
    pub queue_memory_bytes: usize,
    /// Memory for the incomplete messages of all clients, in bytes. Above it reading pauses.
    pub message_memory_bytes: usize,
    /// Connections that speak HTTP at a time; further ones wait in the accept queue. A connection that has become a
    /// WebSocket does not count.
    pub max_connections: usize,
    /// WebSockets of this worker, over all routes (503 above it).
    pub max_websockets: usize,
    /// Requests that user code handles at a time (503 above it).
    pub max_requests: usize,
    /// The proxies whose `X-Forwarded-` headers are trusted. None: no proxy is.
    pub proxies: Option<Proxies>,
    /// The path prefix under which a proxy serves the application, such as `/chat`. It precedes the paths of
    /// redirects.
    pub root_path: String,
    /// The access log. None: requests are not recorded.
    pub access: Option<AccessLog>,
}

/// TCP keep-alive: probes that the system sends to a silent peer. The peer's system answers them, not its program.
/// A connection whose probes get no answer is closed.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct TcpKeepAlive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between two probes.
    pub interval: Duration,
    /// The number of unanswered probes that closes the connection.
    pub probes: u32,
}

impl TcpKeepAlive {
    /// The first probe after `seconds`, and six more within the same time. None for 0.
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
    /// Replaces the peer in the head by the client that a trusted proxy reports.
    pub(super) fn resolve_peer(&self, head: &mut Arc<Head>) {
        if let Some(proxies) = &self.proxies {
            let head = Arc::get_mut(head).expect("no other owner yet");
            head.peer = proxies.resolve_peer(head);
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
            // The rate of the slowest link that the limits of sessions are tested with: 64 kbit/s and more.
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
