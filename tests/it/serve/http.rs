//! Plain HTTP: the responses of the server itself, and clients that stop in the middle.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use fanbus::http::config::Config;
use fanbus::http::replies::{Reply, ReplyKey};
use fanbus::http::response::Response;

use super::setup;
use crate::support::client::{Client, End};
use crate::support::handler::Seen;
use crate::support::worker::{Setup, TestBus, Worker};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn with(config: Config) -> (TestBus, Worker) {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), Setup { config, ..setup() });
    (bus, worker)
}

#[test]
fn requests_without_a_route_are_refused_with_the_right_status() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::connect(worker.address);
    for (request, status) in [("GET /none", 404), ("POST /", 405), ("GET /", 200)] {
        client.send_bytes(format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!(answer.status, status, "{request}");
        let allow = answer.header("allow");
        assert_eq!(allow, (status == 405).then_some("GET, HEAD, OPTIONS"));
    }
}

#[test]
fn head_is_the_head_of_get() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::connect(worker.address);
    client.send_bytes(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let head = client.head();
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("6"))
    );
    client.send_bytes(GET);
    assert_eq!(client.answer().body, b"hello\n", "no body came before");
}

#[test]
fn requests_may_be_pipelined_and_cut_anywhere() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::connect(worker.address);
    let post = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345";
    let chunked = b"POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    let all = [GET, post, chunked, GET].concat();
    for piece in [all.len(), 50, 1] {
        for piece in all.chunks(piece) {
            client.send_bytes(piece);
        }
        let bodies = [(); 4].map(|()| String::from_utf8(client.answer().body).expect("text"));
        assert_eq!(bodies, ["hello\n", "5\n", "7\n", "hello\n"]);
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_sent_and_while_it_arrives() {
    let (_bus, worker) = with(Config {
        max_body_bytes: 1000,
        ..Config::default()
    });
    let post = "POST /body HTTP/1.1\r\nHost: localhost\r\n";
    let mut client = Client::connect(worker.address);
    client.send_bytes(format!("{post}Content-Length: 1000000000\r\n\r\n").as_bytes());
    assert_eq!(client.answer().status, 413);

    let mut client = Client::connect(worker.address);
    client.send_bytes(format!("{post}Transfer-Encoding: chunked\r\n\r\n7d0\r\n").as_bytes());
    client.send_bytes(&[b'x'; 2000]);
    assert_eq!(client.answer().status, 413);

    let mut client = Client::connect(worker.address);
    client.send_bytes(format!("{post}Content-Length: 1000\r\n\r\n").as_bytes());
    client.send_bytes(&[b'x'; 1000]);
    assert_eq!(client.answer().body, b"1000\n");
}

#[test]
fn a_client_that_stops_in_the_middle_frees_its_connection_for_the_next() {
    let (_bus, worker) = with(Config {
        max_connections: 1,
        head_timeout: Duration::from_millis(700),
        body_timeout: Duration::from_millis(300),
        write_timeout: Duration::from_secs(1),
        keep_alive: Duration::from_millis(700),
        ..Config::default()
    });
    let half_head = &GET[..20];
    let half_body = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf";
    let unread = b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for stops in [&b""[..], half_head, half_body, unread, GET] {
        let mut stuck = Client::connect_narrow(worker.address);
        stuck.send_bytes(stops);
        let mut next = Client::connect(worker.address);
        next.send_bytes(GET);
        assert_eq!(next.answer().body, b"hello\n");
        drop(stuck);
    }
}

#[test]
fn a_body_that_does_not_arrive_is_refused_with_408() {
    let (_bus, worker) = with(Config {
        body_timeout: Duration::from_millis(200),
        ..Config::default()
    });
    let mut client = Client::connect(worker.address);
    client.send_bytes(b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf");
    assert_eq!(client.answer().status, 408);
    assert_eq!(client.end(), End::Finished);
}

#[test]
fn a_body_that_arrives_steadily_may_take_longer() {
    let (_bus, worker) = with(Config {
        body_timeout: Duration::from_millis(200),
        body_bytes_per_second: 1,
        ..Config::default()
    });
    let head = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 61\r\n\r\n";
    let mut steady = Client::connect(worker.address);
    steady.send_bytes(head);
    steady.send_bytes(&[b'x'; 60]);
    // It began later, and its time is over. The first connection would be closed, too, if nothing had arrived on
    // it.
    let mut silent = Client::connect(worker.address);
    silent.send_bytes(head);
    assert_eq!(silent.answer().status, 408);
    steady.send_bytes(b"x");
    assert_eq!(steady.answer().body, b"61\n");
}

fn held(seen: &Seen) -> Option<ReplyKey> {
    match seen {
        Seen::Held(key) => Some(*key),
        _ => None,
    }
}

fn reply(text: &str) -> Reply {
    Response::sentence(200.try_into().expect("a status"), text).into()
}

#[test]
fn a_client_that_does_not_read_gets_no_further_responses() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let request = "GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut greedy = Client::connect_narrow(worker.address);
    let both = format!("GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n{request}");
    greedy.send_bytes(both.as_bytes());
    let head = greedy.head();
    // The server would have read the second request by now, before this one.
    let mut other = Client::connect(worker.address);
    other.send_bytes(request.as_bytes());
    worker.answer(worker.saw("a request", held), [reply("of the other")]);
    assert_eq!(other.answer().body, b"of the other\n");

    let len = head
        .header("content-length")
        .and_then(|len| len.parse().ok());
    greedy.bytes(len.expect("a length"));
    worker.answer(worker.saw("a request", held), [reply("of the greedy")]);
    assert_eq!(greedy.answer().body, b"of the greedy\n");
}

#[test]
fn a_late_reply_to_a_disconnected_client_reaches_no_other_client() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let request = b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut gone = Client::connect(worker.address);
    gone.send_bytes(request);
    let late = worker.saw("a request", held);
    gone.reset();

    let mut stays = Client::connect(worker.address);
    stays.send_bytes(request);
    let due = worker.saw("a request", held);
    for (key, text) in [
        (late, "late"),
        (late, "twice"),
        (due, "due"),
        (due, "again"),
    ] {
        worker.answer(key, [reply(text)]);
    }
    assert_eq!(stays.answer().body, b"due\n");
}

#[test]
fn a_busy_handler_gets_no_further_requests() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    worker.has_room.store(false, SeqCst);
    let mut client = Client::connect(worker.address);
    client.send_bytes(GET);
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    worker.has_room.store(true, SeqCst);
    client.send_bytes(GET);
    assert_eq!(client.answer().status, 200);
}
