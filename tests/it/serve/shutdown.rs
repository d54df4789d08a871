//! The shutdown of a worker: running work is finished, and nothing delays the end.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use fanbus::actors::hub::Command;
use fanbus::actors::shutdown::Ending;
use fanbus::http::config::Config;
use fanbus::http::response::Response;

use super::setup;
use crate::support::client::{Client, End, handshake};
use crate::support::handler::{Seen, asked};
use crate::support::worker::{Setup, TestBus, Worker};
use crate::support::{DEADLINE, eventually};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Longer than any test waits: whatever ends earlier ends because nothing is left.
const LONG: Duration = DEADLINE.saturating_mul(2);

#[test]
fn sessions_are_closed_with_1012_and_the_worker_ends_when_clients_have_answered() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let paths = ["/echo", "/relay/room", "/handler/usual"];
    let mut clients = paths.map(|path| Client::open(worker.address, path));
    let mut usual = Client::open(worker.address, "/handler/usual");
    usual.text("say-times 10 sent before");
    worker.shut_down(LONG);
    for client in &mut clients {
        client.expect_close(1012);
        let again = TcpStream::connect(worker.address);
        assert!(again.is_err(), "who is sent away does not come back here");
        client.close(1012);
        assert_eq!(client.end(), End::Finished);
    }
    let (before, code) = usual.closed();
    assert!((before.len() == 10 || before.is_empty()) && code == 1012);
    assert!(!worker.has_ended(), "one has not answered");
    drop((clients, usual));
    eventually("the end", || worker.has_ended());
}

#[test]
fn a_worker_without_requests_ends_at_once_with_idle_connections_or_without() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut idle = Client::connect(worker.address);
    idle.send_bytes(GET);
    assert_eq!(idle.answer().status, 200);
    let _silent = Client::connect(worker.address);
    worker.shut_down(LONG);
    eventually("the end", || worker.has_ended());
    assert_eq!(idle.end(), End::Finished);
}

#[test]
fn a_lingering_worker_serves_idle_connections_and_then_closes_them() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut kept = Client::connect(worker.address);
    kept.send_bytes(GET);
    assert_eq!(kept.answer().status, 200);
    let mut silent = Client::connect(worker.address);
    worker.end(Ending {
        grace: LONG * 2,
        linger: LONG,
    });
    eventually("the end of listening", || {
        TcpStream::connect(worker.address).is_err()
    });
    // A client must not repeat this request by itself (RFC 9110, section 9.2.2).
    let post = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    for client in [&mut kept, &mut silent] {
        client.send_bytes(post);
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(client.end(), End::Finished);
    }
    eventually("the end", || worker.has_ended());
}

#[test]
fn a_worker_that_does_not_linger_responds_to_requests_sent_before_its_end() {
    for _ in 0..20 {
        let bus = TestBus::new();
        let worker = Worker::with(bus.name(), setup());
        let mut clients: Vec<_> = (0..20).map(|_| Client::connect(worker.address)).collect();
        for client in &mut clients {
            client.send_bytes(GET);
            assert_eq!(client.answer().status, 200);
        }
        for client in &mut clients {
            client.send_bytes(GET);
        }
        worker.end(Ending {
            grace: LONG,
            linger: Duration::ZERO,
        });
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
            assert_eq!(client.end(), End::Finished);
        }
        eventually("the end", || worker.has_ended());
    }
}

#[test]
fn a_client_whose_idle_connection_was_closed_reaches_another_worker() {
    for _ in 0..20 {
        let bus = TestBus::new();
        let worker = Worker::with(bus.name(), setup());
        let mut kept = Client::connect(worker.address);
        kept.send_bytes(GET);
        assert_eq!(kept.answer().status, 200);
        worker.end(Ending {
            grace: LONG,
            linger: Duration::ZERO,
        });
        assert_eq!(kept.end(), End::Finished);
        assert!(TcpStream::connect(worker.address).is_err());
        eventually("the end", || worker.has_ended());
    }
}

#[test]
fn a_running_request_gets_its_response_even_if_its_body_is_incomplete() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut held = Client::connect(worker.address);
    held.send_bytes(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let key = worker.saw("the request", |seen| match seen {
        Seen::Held(key) => Some(*key),
        _ => None,
    });
    let mut sends = Client::connect(worker.address);
    sends.send_bytes(
        b"POST /held HTTP/1.1\r\nHost: localhost\r\n\r\n\
          POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf ",
    );
    assert_eq!(
        sends.answer().status,
        405,
        "so the second request has begun"
    );
    let mut session = Client::open(worker.address, "/echo");
    worker.shut_down(LONG);
    session.expect_close(1012);
    drop(session);

    // The last session has closed, and the requests are running. A worker that ignores them would end in this time.
    std::thread::sleep(Duration::from_millis(200));
    sends.send_bytes(b"a body");
    let response = Response::sentence(200.try_into().expect("a status"), "at last");
    worker.answer(key, [response.into()]);
    assert_eq!(held.answer().body, b"at last\n");
    eventually("the end", || worker.has_ended());
}

#[test]
fn a_client_in_the_handshake_is_accepted_and_then_closed() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut waits = Client::connect(worker.address);
    waits.send_bytes(handshake("/handler/silent").as_bytes());
    let session = worker.saw("the question", asked);
    worker.shut_down(LONG);
    worker.order(Command::Accept {
        session,
        subprotocol: None,
    });
    assert_eq!(waits.head().status, 101);
    waits.expect_close(1012);
    assert_eq!(worker.saw_closed(), 1012);
    drop(waits);
    eventually("the end", || worker.has_ended());
}

#[test]
fn an_accepted_connection_is_served_however_late_its_handshake_arrives() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    // Sessions that stay open keep the worker running for the other clients.
    let mut stays = Client::open(worker.address, "/echo");
    let paths = ["/echo", "/relay/room", "/handler/usual"];
    let mut late = paths.map(|_| Client::connect(worker.address));
    let mut listens = Client::connect(worker.address);
    let ending = Ending {
        grace: LONG,
        linger: LONG / 2,
    };
    worker.end(ending);
    stays.expect_close(1012);
    for (client, path) in late.iter_mut().zip(paths) {
        client.send_bytes(handshake(path).as_bytes());
        assert_eq!(client.head().status, 101, "{path}");
        client.expect_close(1012);
    }
    listens.send_bytes(b"GET /events/room HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(listens.head().status, 200);
    drop((stays, late, listens));
    eventually("the end", || worker.has_ended());
}

#[test]
fn a_worker_with_all_connections_in_use_notices_its_end() {
    let bus = TestBus::new();
    let config = Config {
        max_connections: 1,
        ..Config::default()
    };
    let setup = Setup { config, ..setup() };
    let worker = Worker::with(bus.name(), setup);
    let mut only = Client::connect(worker.address);
    only.send_bytes(GET);
    assert_eq!(only.answer().status, 200);
    worker.shut_down(LONG);
    drop(only);
    eventually("the end", || worker.has_ended());
}

#[test]
fn clients_that_do_not_answer_are_disconnected_after_the_grace_time() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut deaf = Client::open(worker.address, "/echo");
    let mut held = Client::connect(worker.address);
    held.send_bytes(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let begun = Instant::now();
    worker.shut_down(Duration::from_millis(500));
    deaf.expect_close(1012);
    eventually("the end", || worker.has_ended());
    assert!(
        begun.elapsed() >= Duration::from_millis(500),
        "they had their time"
    );
    deaf.end();
    held.end();
}
