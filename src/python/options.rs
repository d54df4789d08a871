//! The options that Python hands over, each read from the attribute of the same name. Python has checked them and
//! holds their defaults; here they become the limits that the worker knows.

use std::time::Duration;

use pyo3::prelude::*;

use super::errors::value_error;
use crate::actors::limits::Limits;
use crate::actors::outbox::Overflow;
use crate::http::config::{Config, TcpKeepAlive};
use crate::http::proxies::Proxies;
use crate::http::websocket::origin::Origins;
use crate::http::websocket::subprotocol::Subprotocol;

/// A number of seconds. `ValueError` if it is negative, infinite or not a number.
#[derive(Clone, Copy)]
pub(super) struct Seconds(pub Duration);

impl<'py> FromPyObject<'_, 'py> for Seconds {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let seconds: f64 = value.extract()?;
        let duration = Duration::try_from_secs_f64(seconds).map_err(|_| {
            value_error(format!(
                "A number of seconds must be 0 or more, got {seconds}."
            ))
        })?;
        Ok(Self(duration))
    }
}

fn duration(seconds: Option<Seconds>) -> Option<Duration> {
    seconds.map(|Seconds(duration)| duration)
}

/// `fanbus.WebSocketConfig`: the limits of one WebSocket route.
#[derive(FromPyObject)]
pub(super) struct WebSocketConfig {
    max_message_size: usize,
    rate_limit: Option<u32>,
    heartbeat_interval: Option<Seconds>,
    timeout: Option<Seconds>,
    tick: Option<Seconds>,
    max_queue_bytes: usize,
    #[pyo3(from_py_with = overflow)]
    overflow: Overflow,
    pub compression: bool,
    subprotocols: Vec<String>,
    origins: Option<Vec<String>>,
    max_connections: Option<usize>,
    pub max_topics: usize,
}

impl WebSocketConfig {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            max_message_size: self.max_message_size,
            rate_limit: self.rate_limit,
            heartbeat_interval: duration(self.heartbeat_interval),
            tick: duration(self.tick),
            timeout: duration(self.timeout),
            max_queue_bytes: self.max_queue_bytes,
            overflow: self.overflow,
            max_connections: self.max_connections,
            open_timeout: Limits::OPEN_TIMEOUT,
            close_timeout: Limits::CLOSE_TIMEOUT,
            answer_timeout: Limits::ANSWER_TIMEOUT,
        }
    }

    /// `ValueError` for a name that cannot be one.
    pub(super) fn subprotocols(&self) -> PyResult<Vec<Subprotocol>> {
        let names = self.subprotocols.iter().map(Subprotocol::new);
        names.collect::<Result<_, _>>().map_err(value_error)
    }

    /// `ValueError` for a string that is not an origin.
    pub(super) fn origins(&self) -> PyResult<Origins> {
        Origins::new(self.origins.clone()).map_err(value_error)
    }
}

fn overflow(name: &Bound<'_, PyAny>) -> PyResult<Overflow> {
    let name: String = name.extract()?;
    Overflow::from_name(&name)
        .ok_or_else(|| value_error(format!("overflow={name:?} is not a policy.")))
}

/// The limits of a `fanbus.EventStream`.
#[derive(FromPyObject)]
pub(super) struct EventStreamOptions {
    pub last: Option<usize>,
    pub last_event_id: Option<String>,
    retry: Seconds,
    ping_interval: Seconds,
    max_queue_bytes: usize,
    max_connections: Option<usize>,
}

impl EventStreamOptions {
    pub(super) fn retry_ms(&self) -> u64 {
        self.retry.0.as_millis() as u64
    }

    pub(super) fn limits(&self) -> Limits {
        Limits {
            heartbeat_interval: Some(self.ping_interval.0),
            // The connection has a timeout, as for any response: it knows how much the client has taken.
            timeout: None,
            max_queue_bytes: self.max_queue_bytes,
            max_connections: self.max_connections,
            close_timeout: Limits::CLOSE_TIMEOUT,
            // A client of an event stream sends nothing, and is answered without a handler.
            max_message_size: 0,
            rate_limit: None,
            tick: None,
            overflow: Overflow::Close,
            open_timeout: Limits::OPEN_TIMEOUT,
            answer_timeout: Limits::ANSWER_TIMEOUT,
        }
    }
}

/// `fanbus.config.Settings`: the settings of a server, as far as its workers need them.
#[derive(FromPyObject)]
pub(super) struct Settings {
    pub debug: bool,
    pub root_path: String,
    timeout_keep_alive: Seconds,
    timeout_head: Seconds,
    timeout_body: Seconds,
    min_body_rate: usize,
    timeout_write: Seconds,
    tcp_keepalive: u32,
    max_body_memory: usize,
    max_queue_memory: usize,
    max_message_memory: usize,
    limit_concurrency: Option<usize>,
    proxy_headers: bool,
    forwarded_allow_ips: Vec<String>,
}

impl Settings {
    /// The configuration of the HTTP side. `ValueError` if a proxy is not an address or a network.
    pub(super) fn config(&self) -> PyResult<Config> {
        let proxies = self
            .proxy_headers
            .then(|| Proxies::parse(&self.forwarded_allow_ips))
            .transpose()
            .map_err(|text| value_error(format!("{text} is not an address or network.")))?;
        Ok(Config {
            keep_alive: self.timeout_keep_alive.0,
            head_timeout: self.timeout_head.0,
            body_timeout: self.timeout_body.0,
            body_bytes_per_second: self.min_body_rate.max(1),
            body_memory_bytes: self.max_body_memory,
            queue_memory_bytes: self.max_queue_memory,
            message_memory_bytes: self.max_message_memory,
            write_timeout: self.timeout_write.0,
            keepalive: TcpKeepAlive::after(self.tcp_keepalive),
            max_requests: self.limit_concurrency.unwrap_or(usize::MAX),
            proxies,
            root_path: self.root_path.clone(),
            access: None,
            handshake_timeout: Config::HANDSHAKE_TIMEOUT,
            max_body_bytes: Config::MAX_BODY_BYTES,
            max_connections: Config::MAX_CONNECTIONS,
            max_websockets: Config::MAX_WEBSOCKETS,
        })
    }
}
