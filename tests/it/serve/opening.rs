//! The way in: who is let in, who is refused and how, and what is left of those who were not.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use fanbus::actors::close::CloseCause;
use fanbus::actors::hub::Command;
use fanbus::actors::limits::Limits;
use fanbus::actors::rejection::Rejection;

use super::setup;
use crate::support::client::{Client, End, frame, handshake, opcode};
use crate::support::eventually;
use crate::support::handler::{Seen, asked};
use crate::support::worker::{Setup, TestBus, Worker};

fn with(limits: Limits) -> (TestBus, Worker) {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), Setup { limits, ..setup() });
    (bus, worker)
}

/// At most one session per address: whoever stays behind is noticed.
fn one_at_a_time() -> Limits {
    Limits {
        max_connections: Some(1),
        ..Limits::default()
    }
}

/// Opens a session as soon as there is room for one: what was there before has gone.
#[track_caller]
fn opens_again(worker: &Worker, path: &str) {
    eventually("room for a session", || {
        let mut client = Client::connect(worker.address);
        client.send_bytes(handshake(path).as_bytes());
        match client.head().status {
            101 => {
                client.close(1000);
                client.expect_close(1000);
                client.end();
                true
            }
            503 => false,
            other => panic!("neither in nor full: {other}"),
        }
    });
}

#[test]
fn a_refused_handshake_says_why_and_the_connection_ends() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let good = handshake("/echo");
    let cases = [
        (good.replace("/echo", "/nowhere"), 404),
        (good.replace("dGhl", "????"), 400),
        (good.replace("Version: 13", "Version: 8"), 426),
        (
            good.replace("Host:", "Origin: http://evil.example\r\nHost:"),
            403,
        ),
        (good.replace("/echo", "/handler/reject"), 418),
        (good.replace("/echo", "/relay/%00"), 400),
    ];
    for (request, status) in cases {
        let mut client = Client::connect(worker.address);
        client.send_bytes(request.as_bytes());
        let answer = client.answer();
        assert_eq!(answer.status, status, "{request}{answer:?}");
        assert!(!answer.body.is_empty(), "{status} says why");
        assert_eq!(client.end(), End::Finished);
        let version = answer.header("sec-websocket-version");
        assert_eq!(version, (status == 426).then_some("13"));
    }
}

#[test]
fn an_upgrade_to_something_else_is_an_ordinary_request() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::connect(worker.address);
    client.send_bytes(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n\
          Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello\n"[..]));
}

#[test]
fn a_plain_request_to_a_websocket_is_told_to_upgrade() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::connect(worker.address);
    for (end, connection) in [("", "upgrade"), ("Connection: close\r\n", "close, upgrade")] {
        let request = format!("GET /echo HTTP/1.1\r\nHost: localhost\r\n{end}\r\n");
        client.send_bytes(request.as_bytes());
        let answer = client.answer();
        assert_eq!(answer.status, 426);
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        assert_eq!(answer.header("connection"), Some(connection));
    }
}

#[test]
fn an_upgrade_of_a_plain_route_is_an_ordinary_request() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::connect(worker.address);
    // RFC 9110, section 7.8: a server may go on as it is, and an old client has to.
    let upgrade = handshake("/");
    let old = upgrade.replace("HTTP/1.1", "HTTP/1.0");
    client.send_bytes(format!("{upgrade}{upgrade}{old}").as_bytes());
    for _ in 0..3 {
        let answer = client.answer();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello\n"[..]));
        assert_eq!(answer.header("upgrade"), None);
    }
    assert_eq!(client.end(), End::Finished);
    let mut client = Client::connect(worker.address);
    client.send_bytes(
        handshake("/echo")
            .replace("HTTP/1.1", "HTTP/1.0")
            .as_bytes(),
    );
    assert_eq!(client.answer().status, 400);
}

#[test]
fn a_refused_client_may_go_on_sending_while_it_reads_the_answer() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::connect(worker.address);
    let mut bytes = handshake("/nowhere").into_bytes();
    bytes.extend(frame(true, opcode::BINARY, &vec![0; 200_000]));
    client.send_bytes(&bytes);
    assert_eq!(client.answer().status, 404);
    // A connection that was thrown away would be reset by the first and refuse the others.
    for _ in 0..10 {
        client.send(opcode::BINARY, &[0; 1000]);
    }
    client.half_close();
    assert_eq!(client.end(), End::Finished);
}

#[test]
fn requests_in_front_of_an_upgrade_are_answered_first() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::connect(worker.address);
    let get = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.send_bytes(format!("{get}{get}{}", handshake("/echo")).as_bytes());
    for _ in 0..2 {
        assert_eq!(client.answer().body, b"hello\n");
    }
    assert_eq!(client.head().status, 101);
    client.text("hi");
    assert_eq!(client.message(), "Echo: hi");
}

#[test]
fn one_client_too_many_gets_503_and_the_next_is_welcome_again() {
    let (_bus, worker) = with(one_at_a_time());
    let first = Client::open(worker.address, "/echo");
    assert_eq!(Client::refused(worker.address, "/echo").status, 503);
    Client::open(worker.address, "/relay/other-address");
    drop(first);
    opens_again(&worker, "/echo");
}

#[test]
fn a_handler_that_never_answers_costs_the_client_a_504_and_is_told() {
    let (_bus, worker) = with(Limits {
        open_timeout: Duration::from_millis(200),
        ..one_at_a_time()
    });
    let answer = Client::refused(worker.address, "/handler/silent");
    assert_eq!(answer.status, 504);
    let session = worker.saw("the question", asked);
    let told = |seen: &Seen| match seen {
        Seen::Closed(closed, code) if *closed == session => Some(*code),
        _ => None,
    };
    assert_eq!(worker.saw("the end", told), 1006);

    // Its answer comes late, when somebody else has the place.
    let mut next = Client::open(worker.address, "/handler/usual");
    worker.order(Command::Accept {
        session,
        subprotocol: None,
    });
    worker.order(Command::Close {
        session,
        cause: CloseCause::Application {
            code: 4000,
            reason: String::new(),
        },
    });
    worker.order(Command::Reject {
        session,
        rejection: Box::new(Rejection::new(403, "")),
    });
    next.text("say still here");
    assert_eq!(next.message(), "still here");
}

#[test]
fn accepting_twice_is_accepting_once_and_then_it_cannot_be_refused() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::open(worker.address, "/handler/twice");
    client.text("say in");
    assert_eq!(client.message(), "in");
}

#[test]
fn a_client_that_leaves_before_it_was_accepted_leaves_nothing_behind() {
    let (_bus, worker) = with(one_at_a_time());
    for leaves in [Client::reset, drop] {
        let mut client = Client::connect(worker.address);
        client.send_bytes(handshake("/handler/silent").as_bytes());
        let session = worker.saw("the question", asked);
        leaves(client);
        worker.order(Command::Accept {
            session,
            subprotocol: None,
        });
        assert_eq!(worker.saw_closed(), 1006);
        opens_again(&worker, "/handler/usual");
        assert_eq!(worker.saw_closed(), 1000);
    }
}

#[test]
fn clients_are_not_queued_for_a_handler_that_has_too_much_to_do() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    worker.has_room.store(false, SeqCst);
    assert_eq!(
        Client::refused(worker.address, "/handler/usual").status,
        503
    );
    // Nobody is asked here.
    Client::open(worker.address, "/echo");
    worker.has_room.store(true, SeqCst);
    Client::open(worker.address, "/handler/usual");
}

#[test]
fn a_reset_in_any_state_leaves_no_session_behind() {
    let (_bus, worker) = with(one_at_a_time());
    let states: [fn(&mut Client); 7] = [
        |_| {},
        |client| client.send_bytes(&frame(true, opcode::TEXT, b"half a frame")[..9]),
        |client| client.send_bytes(&[0x81]),
        |client| client.send_bytes(&frame(false, opcode::TEXT, b"half a message")),
        |client| client.text("a message whose echo nobody reads"),
        |client| client.close(1000),
        |client| client.send_bytes(b"\x81\x00not masked"),
    ];
    for state in states {
        for path in ["/echo", "/relay/room", "/handler/deaf"] {
            let mut client = Client::open(worker.address, path);
            state(&mut client);
            client.reset();
            opens_again(&worker, path);
        }
    }
}
