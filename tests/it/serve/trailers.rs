//! Trailers: header lines after the content of a streamed response.

use std::sync::Arc;

use bytes::Bytes;
use fanbus::http::replies::ReplyKey;
use fanbus::http::response::{Response, ResponseBody};
use fanbus::http::stream_body::{BodyWatcher, StreamSender, stream_body};
use fanbus::http::trailers::{TrailerSlot, Trailers};

use super::setup;
use crate::support::client::{Client, without_dates};
use crate::support::worker::{Seen, TestBus, Worker};

/// A watcher that ignores all notifications.
pub(super) struct Nobody;

impl BodyWatcher for Nobody {
    fn send_ready(&self) {}
    fn closed(&self) {}
}

/// A streamed response that announces its trailer, the sender of its content, and the slot for the trailer.
fn streamed() -> (Response, StreamSender, TrailerSlot) {
    let (sender, body) = stream_body(Box::new(Nobody));
    let slot = TrailerSlot::default();
    let mut response = Response::sentence(200.try_into().expect("a status"), "")
        .with_header("trailer".parse().expect("a name"), value("digest"));
    response.content_type = None;
    response.body = ResponseBody::Stream(body);
    response.trailers = Some(Arc::clone(&slot));
    (response, sender, slot)
}

fn value(text: &'static str) -> actix_http::header::HeaderValue {
    actix_http::header::HeaderValue::from_static(text)
}

fn held(worker: &Worker) -> ReplyKey {
    worker.saw("a request", |seen| match seen {
        Seen::Held(key) => Some(*key),
        _ => None,
    })
}

/// The response to the last request on a connection.
const LAST: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 6\r\n\
                    connection: close\r\n\r\nhello\n";

/// Everything that a client gets that sends this request and another one. `ends`: the producer ends its stream.
fn got(worker: &Worker, request: &str, ends: bool) -> String {
    let mut client = Client::connect(worker.address);
    let last = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    client.send_bytes(format!("{request}{last}").as_bytes());
    let (mut response, sender, slot) = streamed();
    if request.contains("X-Length") {
        response = response.with_header("content-length".parse().expect("a name"), value("5"));
    }
    worker.answer(held(worker), [response.into()]);
    sender.write(b"hello", || Bytes::from_static(b"hello"));
    if ends {
        let mut trailers = Trailers::default();
        let name = "digest".parse().expect("a name");
        trailers.add(name, value("5d41")).expect("it may be one");
        slot.set(trailers).expect("it is set once");
        sender.end(false);
    } else {
        drop(sender);
    }
    without_dates(&client.rest())
}

#[test]
fn trailers_follow_the_last_chunk_for_clients_that_accept_them() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let get = "GET /held HTTP/1.1\r\nHost: localhost\r\n";
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    let chunks = "\r\n5\r\nhello\r\n0\r\n";
    for (request, expected) in [
        (
            format!("{get}TE: trailers\r\n\r\n"),
            format!("{ok}trailer: digest\r\n{chunked}{chunks}digest: 5d41\r\n\r\n{LAST}"),
        ),
        (
            format!("{get}TE: gzip, Trailers\r\nConnection: close, TE\r\n\r\n"),
            format!(
                "{ok}trailer: digest\r\n{chunked}connection: close\r\n{chunks}digest: 5d41\r\n\r\n"
            ),
        ),
        (
            format!("{get}\r\n"),
            format!("{ok}{chunked}{chunks}\r\n{LAST}"),
        ),
        (
            "GET /held HTTP/1.0\r\nTE: trailers\r\n\r\n".to_owned(),
            format!("{ok}connection: close\r\n\r\nhello"),
        ),
        (
            format!("{get}X-Length: 5\r\nTE: trailers\r\n\r\n"),
            format!("{ok}content-length: 5\r\n\r\nhello{LAST}"),
        ),
        (
            "HEAD /held HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\n\r\n".to_owned(),
            format!("{ok}\r\n{LAST}"),
        ),
    ] {
        assert_eq!(got(&worker, &request, true), expected, "{request}");
    }
}

#[test]
fn an_incomplete_stream_has_no_trailers() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let request = "GET /held HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\n\r\n";
    let got = got(&worker, request, false);
    assert!(got.ends_with("\r\n\r\n5\r\nhello\r\n"), "{got}");
}
