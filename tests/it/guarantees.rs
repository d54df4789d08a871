//! The table of limits in `docs/guarantees.md`, compared with the constants and defaults of the code.

use std::collections::BTreeSet;

use fanbus::actors::partials;
use fanbus::http::config::Config;
use fanbus::http::{form, limits, stream_body};

const GUARANTEES: &str = include_str!("../../docs/guarantees.md");
const LIMITS: &str = include_str!("../../src/http/limits.rs");

/// How the table writes so many bytes.
fn bytes(count: usize) -> String {
    match count {
        _ if count.is_multiple_of(1 << 20) => format!("{} MiB", count >> 20),
        _ if count.is_multiple_of(1 << 10) => format!("{} KiB", count >> 10),
        _ => count.to_string(),
    }
}

/// The cells of the only row whose first cell is this.
fn row(limit: &str) -> Vec<&'static str> {
    let rows = GUARANTEES.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        (cells[0] == limit).then_some(cells)
    });
    let found: Vec<_> = rows.collect();
    assert_eq!(found.len(), 1, "rows of {limit:?}");
    found[0].clone()
}

/// Constants of HTTP/2: names, limits, values.
fn of_http2() -> Vec<(&'static str, &'static str, String)> {
    vec![
        (
            "MAX_STREAMS",
            "requests of one HTTP/2 connection in work; streams that are reset do not make room",
            limits::MAX_STREAMS.to_string(),
        ),
        (
            "STREAM_WINDOW_BYTES",
            "bytes of one body that an HTTP/2 client may send before they are read",
            bytes(limits::STREAM_WINDOW_BYTES as usize),
        ),
        (
            "CONNECTION_WINDOW_BYTES",
            "bytes of all bodies that an HTTP/2 client may send before they are read, in addition to the memory for request bodies",
            bytes(limits::CONNECTION_WINDOW_BYTES as usize),
        ),
        (
            "MAX_SMALL_FRAMES",
            "frames with one byte of a body that an HTTP/2 client sends before the worker looks at them; larger ones count less",
            "50,000".to_owned(),
        ),
        (
            "STREAM_SEND_BYTES",
            "bytes of a response that are ready for the socket, for each stream of HTTP/2",
            bytes(limits::STREAM_SEND_BYTES),
        ),
        (
            "RESPONSE_BYTES",
            "the memory for whole responses above that size that wait for HTTP/2 clients, per worker",
            bytes(limits::RESPONSE_BYTES),
        ),
    ]
}

#[test]
fn every_limit_of_http_that_no_option_changes_is_in_the_table() {
    let table = [
        (
            "MAX_HEAD_BYTES",
            "bytes of the head of a request; over HTTP/2 as HPACK counts them",
            bytes(limits::MAX_HEAD_BYTES),
        ),
        (
            "MAX_HEADERS",
            "headers of a request over HTTP/1",
            limits::MAX_HEADERS.to_string(),
        ),
        (
            "MAX_TARGET_BYTES",
            "bytes of the target of a request over HTTP/1: path and query",
            bytes(limits::MAX_TARGET_BYTES),
        ),
        (
            "MAX_CHUNK_EXTENSION_BYTES",
            "bytes of the chunk extensions of a body, all chunks added up",
            bytes(limits::MAX_CHUNK_EXTENSION_BYTES),
        ),
        (
            "MAX_TRAILER_BYTES",
            "bytes of the trailers of a body",
            bytes(limits::MAX_TRAILER_BYTES),
        ),
        (
            "MAX_EARLY_HINTS",
            "interim responses with early hints (103) that a request may have",
            limits::MAX_EARLY_HINTS.to_string(),
        ),
        (
            "READ_AHEAD_BYTES",
            "bytes that are read ahead of a running request: further requests of the same client",
            bytes(limits::READ_AHEAD_BYTES),
        ),
        (
            "BODY_AHEAD_BYTES",
            "bytes of a body that wait for a handler that reads it in chunks",
            format!("{} and one chunk", bytes(limits::BODY_AHEAD_BYTES)),
        ),
        (
            "MAX_LINGER_BYTES",
            "bytes of a body that are read and thrown away behind a response that did not wait for it",
            bytes(limits::MAX_LINGER_BYTES),
        ),
    ];
    assert_eq!(limits::MAX_SMALL_FRAMES, 50_000);
    let table = table.into_iter().chain(of_http2());
    let table: Vec<_> = table.collect();
    for (name, limit, value) in &table {
        assert_eq!(row(limit)[1], value, "{name}");
    }
    // "The same, of one HTTP/2 connection" stands below what it is a share of.
    let shares = [
        (
            "CONNECTION_BODY_BYTES",
            "| the memory for request bodies",
            limits::CONNECTION_BODY_BYTES,
        ),
        (
            "CONNECTION_RESPONSE_BYTES",
            "| the memory for whole responses",
            limits::CONNECTION_RESPONSE_BYTES,
        ),
    ];
    for (name, above, value) in shares {
        let mut below = GUARANTEES
            .lines()
            .skip_while(|line| !line.starts_with(above));
        let found = below.nth(1).expect("a row");
        let expected = format!("| the same, of one HTTP/2 connection | {} |", bytes(value));
        assert!(found.starts_with(&expected), "{name}: {found}");
    }
    let named: BTreeSet<_> = table
        .iter()
        .map(|it| it.0)
        .chain(shares.map(|it| it.0))
        .collect();
    let declared = LIMITS
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "));
    let declared: BTreeSet<_> = declared.filter_map(|rest| rest.split(':').next()).collect();
    assert_eq!(named, declared);
}

#[test]
fn the_defaults_of_a_worker_are_those_of_the_table() {
    let config = Config::default();
    let seconds = |time: std::time::Duration| format!("{} s", time.as_secs());
    for (limit, value) in [
        (
            "`max_body_size` of the application or of a route, bytes that the body of a request may have",
            bytes(config.max_body_bytes),
        ),
        (
            "the memory for request bodies, per worker (`max_body_memory`); bodies that are still arriving have half of it",
            bytes(config.body_memory_bytes),
        ),
        (
            "the memory for messages queued for WebSockets and event streams, per worker (`max_queue_memory`); a published message counts once for all of them",
            bytes(config.queue_memory_bytes),
        ),
        (
            "the memory for messages of WebSockets that are still arriving, per worker (`max_message_memory`)",
            bytes(config.message_memory_bytes),
        ),
        (
            "clients that have such a turn at a time; each may finish its message beyond that memory",
            partials::MOST_TURNS.to_string(),
        ),
        (
            "bytes that a client must send in 5 s of its turn, while others wait, unless that ends its message",
            bytes(partials::TURN_BYTES),
        ),
        (
            "the time for the handshake of TLS",
            seconds(config.handshake_timeout),
        ),
        (
            "the time for a request's head to come (`timeout_head`)",
            seconds(config.head_timeout),
        ),
        (
            "the time between requests on a connection (`timeout_keep_alive`)",
            seconds(config.keep_alive),
        ),
        (
            "the time in which a client takes nothing of a response (`timeout_write`)",
            seconds(config.write_timeout),
        ),
        (
            "connections that speak HTTP, or are in the handshake of TLS, per worker",
            "16,384".to_owned(),
        ),
        (
            "parts of a multipart form, or fields of another",
            "1,000".to_owned(),
        ),
        (
            "bytes of a streamed response that wait for its client",
            format!("{} and one chunk", bytes(stream_body::MAX_QUEUED_BYTES)),
        ),
    ] {
        assert_eq!(row(limit)[1], value, "{limit}");
    }
    assert_eq!((config.max_connections, form::MAX_PARTS), (16_384, 1000));
    let short = row(
        "the memory for messages of WebSockets that are still arriving, per worker (`max_message_memory`)",
    )[2];
    assert!(short.ends_with(&format!("{} at a time", bytes(partials::SHORT_READ))));
    assert_eq!(seconds(partials::TURN_TIME), "5 s");
    let body =
        row("the time for a request's whole body to come (`timeout_body`, `min_body_rate`)")[1];
    let rate = bytes(config.body_bytes_per_second);
    let expected = format!(
        "{}, and one second more for each {rate} that have come",
        seconds(config.body_timeout)
    );
    assert_eq!(body, expected);
}
