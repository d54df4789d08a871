//! The defaults of the Rust tests, compared with those of Python, which are the defaults of Fanbus.

use std::time::Duration;

use fanbus::actors::limits::Limits;
use fanbus::actors::outbox::Overflow;
use fanbus::http::config::{Config, TcpKeepAlive};

const WEBSOCKET: &str = include_str!("../../python/fanbus/websocket.py");
const CONFIG: &str = include_str!("../../python/fanbus/config.py");

/// The expression that a field or a constant of a Python module is set to.
fn expression(module: &'static str, name: &str) -> &'static str {
    let mut lines = module.lines();
    let line = lines
        .by_ref()
        .map(str::trim)
        .find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([':', ' ']) && rest.contains(" = "))
        })
        .unwrap_or_else(|| panic!("{name} is set nowhere"));
    let (_, value) = line.split_once(" = ").expect("it was looked for");
    // The first argument of `option(` stands in the next line.
    if value == "option(" {
        lines
            .next()
            .expect("an argument")
            .trim()
            .trim_end_matches(',')
    } else {
        value
    }
}

/// The number that a Python expression gives. None for None.
fn number(module: &'static str, name: &str) -> Option<f64> {
    let expression = expression(module, name);
    if expression == "None" {
        return None;
    }
    if let Some(constant) = expression.strip_prefix('_') {
        return number(module, &format!("_{constant}"));
    }
    let factor = |text: &str| match text.split_once("**") {
        Some((base, power)) => {
            let base: f64 = base.parse().expect("a number");
            base.powi(power.parse().expect("a power"))
        }
        None => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}: {expression}")),
    };
    Some(expression.split(" * ").map(factor).product())
}

fn size(module: &'static str, name: &str) -> usize {
    number(module, name).expect("it is not None") as usize
}

fn seconds(module: &'static str, name: &str) -> Option<Duration> {
    number(module, name).map(Duration::from_secs_f64)
}

#[test]
fn limits_of_a_session_have_the_defaults_of_websocketconfig() {
    let limits = Limits::default();
    let count = |name| number(WEBSOCKET, name).map(|count| count as usize);
    assert_eq!(limits.max_message_size, size(WEBSOCKET, "max_message_size"));
    assert_eq!(limits.rate_limit.map(|it| it as usize), count("rate_limit"));
    assert_eq!(
        limits.heartbeat_interval,
        seconds(WEBSOCKET, "heartbeat_interval")
    );
    assert_eq!(limits.timeout, seconds(WEBSOCKET, "timeout"));
    assert_eq!(limits.tick, seconds(WEBSOCKET, "tick"));
    assert_eq!(limits.max_queue_bytes, size(WEBSOCKET, "max_queue_bytes"));
    assert_eq!(limits.max_connections, count("max_connections"));
    assert_eq!(expression(WEBSOCKET, "overflow"), "\"close\"");
    assert_eq!(limits.overflow, Overflow::Close);
}

#[test]
fn configuration_of_http_has_the_defaults_of_settings() {
    let config = Config::default();
    let duration = |name| seconds(CONFIG, name).expect("it is not None");
    assert_eq!(config.keep_alive, duration("timeout_keep_alive"));
    assert_eq!(config.head_timeout, duration("timeout_head"));
    assert_eq!(config.body_timeout, duration("timeout_body"));
    assert_eq!(config.body_bytes_per_second, size(CONFIG, "min_body_rate"));
    assert_eq!(config.write_timeout, duration("timeout_write"));
    let keepalive = TcpKeepAlive::after(size(CONFIG, "tcp_keepalive") as u32);
    assert_eq!(config.keepalive, keepalive);
    assert_eq!(config.body_memory_bytes, size(CONFIG, "max_body_memory"));
    assert_eq!(config.queue_memory_bytes, size(CONFIG, "max_queue_memory"));
    assert_eq!(
        config.message_memory_bytes,
        size(CONFIG, "max_message_memory")
    );
    assert_eq!(number(CONFIG, "limit_concurrency"), None);
    assert_eq!(config.max_requests, usize::MAX);
    assert_eq!(expression(CONFIG, "root_path"), "\"\"");
    assert_eq!(config.root_path, "");
}
