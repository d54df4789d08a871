//! Early hints: interim responses with status 103 before their final response.

use fanbus::http::early_hints::EarlyHints;
use fanbus::http::limits::MAX_EARLY_HINTS;
use fanbus::http::replies::{Reply, ReplyKey};
use fanbus::http::response::Response;

use super::setup;
use crate::support::client::{Client, without_dates};
use crate::support::worker::{Seen, TestBus, Worker};

const GET: &str = "GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn hints(lines: &[&str]) -> Reply {
    let mut hints = EarlyHints::default();
    for line in lines {
        let value = (*line).try_into().expect("a value");
        let name = "link".parse().expect("a name");
        hints.add(name, value).expect("it may be a hint");
    }
    Reply::Hints(hints)
}

fn response(text: &str) -> Reply {
    Response::sentence(200.try_into().expect("a status"), text).into()
}

fn held(worker: &Worker) -> ReplyKey {
    worker.saw("a request", |seen| match seen {
        Seen::Held(key) => Some(*key),
        _ => None,
    })
}

fn early(lines: &[&str]) -> String {
    let lines = lines.iter().map(|it| format!("link: {it}\r\n"));
    let lines = lines.collect::<Vec<_>>().concat();
    format!("HTTP/1.1 103 Early Hints\r\n{lines}\r\n")
}

fn late(text: &str, connection: &str) -> String {
    let length = text.len() + 1;
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\n{connection}\r\n{text}\n"
    )
}

#[test]
fn hints_precede_the_response_to_their_own_request() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::connect(worker.address);
    client.send_bytes(format!("{GET}{GET}{GET}").as_bytes());
    client.half_close();

    let first = held(&worker);
    worker.answer(first, [hints(&["</a>", "</b>"])]);
    // They arrive before there is a response.
    assert_eq!(client.head().head, early(&["</a>", "</b>"]));
    worker.answer(first, [hints(&["</c>"]), response("first")]);
    let second = held(&worker);
    // The first request has its response already: these hints are too late, and must not go to the next one.
    worker.answer(first, [hints(&["</late>"])]);
    worker.answer(
        second,
        [hints(&[]), response("second"), hints(&["</late>"])],
    );
    let third = held(&worker);
    worker.answer(third, [hints(&["</d>"]), response("third")]);

    let expected = [
        early(&["</c>"]),
        late("first", ""),
        late("second", ""),
        early(&["</d>"]),
        late("third", ""),
    ];
    assert_eq!(without_dates(&client.rest()), expected.concat());
}

#[test]
fn old_clients_get_no_hints_and_others_get_a_bounded_number() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::connect(worker.address);
    client.send_bytes(b"GET /held HTTP/1.0\r\n\r\n");
    worker.answer(held(&worker), [hints(&["</a>"]), response("old")]);
    let closes = "connection: close\r\n";
    assert_eq!(without_dates(&client.rest()), late("old", closes));

    let mut client = Client::connect(worker.address);
    client.send_bytes(GET.as_bytes());
    client.half_close();
    let key = held(&worker);
    for _ in 0..MAX_EARLY_HINTS * 2 {
        worker.answer(key, [hints(&["</a>"])]);
    }
    worker.answer(key, [response("at last")]);
    let expected = early(&["</a>"]).repeat(MAX_EARLY_HINTS) + &late("at last", "");
    assert_eq!(without_dates(&client.rest()), expected);
}

#[test]
fn the_response_to_head_has_the_hints_of_get() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::connect(worker.address);
    client.send_bytes(b"HEAD /held HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.half_close();
    worker.answer(held(&worker), [hints(&["</a>"]), response("head")]);
    let whole = early(&["</a>"]) + &late("head", "");
    let expected = whole.strip_suffix("head\n").expect("it has a body");
    assert_eq!(without_dates(&client.rest()), expected);
}
