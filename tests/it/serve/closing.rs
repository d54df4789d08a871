//! The way out: close handshakes in both directions, ends without one, and who is told what.

use std::sync::Arc;
use std::time::Duration;

use fanbus::actors::frame::{Kind, message_header};
use fanbus::actors::hub::Command;
use fanbus::actors::limits::Limits;
use fanbus::actors::link::Link;
use fanbus::actors::session_key::SessionKey;
use fanbus::ipc::BusOptions;

use super::setup;
use crate::support::DEADLINE;
use crate::support::client::{Client, End, frame, opcode};
use crate::support::handler::{Seen, publish};
use crate::support::worker::{Setup, TestBus, Worker};

#[test]
fn a_close_is_echoed_then_the_connection_ends_and_the_handler_knows_the_code() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    for code in [1000, 1001, 3000, 4999] {
        let mut client = Client::open(worker.address, "/handler/usual");
        client.close(code);
        client.expect_close(code);
        assert_eq!(client.end(), End::Finished);
        assert_eq!(worker.saw_closed(), code);
    }
    let mut client = Client::open(worker.address, "/handler/usual");
    client.send(opcode::CLOSE, b"");
    client.expect_close(1005);
    assert_eq!(worker.saw_closed(), 1005);
}

#[test]
fn what_was_sent_before_a_close_comes_before_it() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::open(worker.address, "/handler/usual");
    client.text("say-times 3 last words");
    client.text("close 4000");
    let (before, code) = client.closed();
    assert_eq!((before.len(), code), (3, 4000));
    client.close(4000);
    assert_eq!(client.end(), End::Finished);
    assert_eq!(worker.saw_closed(), 4000);
}

/// A message of the handler "deaf", which leaves it to the test to receive it.
fn unreceived(seen: &Seen) -> Option<(SessionKey, Arc<Link>, usize)> {
    match seen {
        Seen::Unreceived(session, link, len) => Some((*session, Arc::clone(link), *len)),
        _ => None,
    }
}

/// A message, and behind it, in the same piece, a frame with a reserved opcode.
fn one_right_one_wrong() -> Vec<u8> {
    [frame(true, opcode::TEXT, b"question"), frame(true, 3, b"")].concat()
}

#[test]
fn what_came_before_a_violation_is_answered_before_the_close() {
    let bus = TestBus::new();
    let limits = Limits {
        answer_timeout: 2 * DEADLINE,
        ..Limits::default()
    };
    let setup = Setup { limits, ..setup() };
    let worker = Worker::with(bus.name(), setup);
    let mut client = Client::open(worker.address, "/handler/deaf");
    client.send_bytes(&one_right_one_wrong());
    let answer = [&message_header(Kind::Text, 6)[..], b"answer"].concat();
    let (session, link, len) = worker.saw("the question", unreceived);
    link.received(len);
    link.sent(answer.len());
    worker
        .orders
        .post(|commands| commands.push_send(session, &[&answer]));
    if link.waits_for_message() {
        worker.order(Command::Resume { session });
    }
    let (before, code) = client.closed();
    let answers: Vec<_> = before.iter().map(|frame| &frame.payload[..]).collect();
    assert_eq!((answers, code), (vec![&b"answer"[..]], 1002));
    assert_eq!(worker.saw_closed(), 1002);
}

#[test]
fn a_handler_that_does_not_answer_does_not_keep_a_violation_open() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::open(worker.address, "/handler/deaf");
    client.send_bytes(&one_right_one_wrong());
    client.expect_close(1002);
    assert_eq!(worker.saw_closed(), 1002);
}

/// A client with more on its way than its connection takes, and a worker that has time: what ends
/// here ends because it is done.
fn slow_client(bus: &TestBus) -> (Worker, Client) {
    let limits = Limits {
        close_timeout: 2 * DEADLINE,
        ..Limits::default()
    };
    let setup = Setup { limits, ..setup() };
    let worker = Worker::with(bus.name(), setup);
    let mut client = Client::connect_narrow(worker.address).opened("/handler/usual");
    client.text(&format!("say-times 60 {}", "x".repeat(10_000)));
    assert_eq!(client.message().len(), 10_000, "it has begun");
    (worker, client)
}

#[test]
fn whoever_says_goodbye_and_stops_sending_gets_all_that_was_sent_before() {
    let bus = TestBus::new();
    let (_worker, mut client) = slow_client(&bus);
    client.close(1000);
    client.half_close();
    let (before, code) = client.closed();
    assert_eq!((before.len(), code), (59, 1000));
    assert_eq!(client.end(), End::Finished);
}

#[test]
fn a_goodbye_that_crosses_the_servers_own_does_not_cut_it_short() {
    let bus = TestBus::new();
    let crossing: [fn(&mut Client); 3] = [
        |client| client.close(1000),
        |client| {
            client.close(1000);
            client.half_close();
        },
        |client| client.send_bytes(b"\x81\x00not masked"),
    ];
    for goodbye in crossing {
        let (worker, mut client) = slow_client(&bus);
        client.text("close 4001");
        assert_eq!(worker.saw_closed(), 4001, "it waits behind the messages");
        goodbye(&mut client);
        let (before, code) = client.closed();
        assert_eq!((before.len(), code), (59, 4001));
        assert_eq!(client.end(), End::Finished);
    }
}

#[test]
fn only_the_first_close_counts_and_nothing_comes_behind_it() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::open(worker.address, "/handler/usual");
    let mut bytes = frame(true, opcode::CLOSE, &1000_u16.to_be_bytes());
    bytes.extend(frame(true, opcode::TEXT, b"say too late"));
    bytes.extend(frame(true, opcode::CLOSE, &4000_u16.to_be_bytes()));
    client.send_bytes(&bytes);
    client.expect_close(1000);
    assert_eq!(client.end(), End::Finished);
    assert_eq!(worker.saw_closed(), 1000);
}

#[test]
fn an_end_without_a_close_frame_is_1006_to_the_handler() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let ends: [fn(Client); 3] = [Client::reset, drop, |mut client| {
        client.half_close();
        assert_eq!(client.end(), End::Finished);
    }];
    for end in ends {
        end(Client::open(worker.address, "/handler/usual"));
        assert_eq!(worker.saw_closed(), 1006);
    }
}

#[test]
fn a_client_that_never_answers_the_close_is_cut_off() {
    let bus = TestBus::new();
    let limits = Limits {
        close_timeout: Duration::from_millis(300),
        max_connections: Some(1),
        ..Limits::default()
    };
    let setup = Setup { limits, ..setup() };
    let worker = Worker::with(bus.name(), setup);
    let mut deaf = Client::open(worker.address, "/handler/usual");
    deaf.text("close 1000");
    deaf.expect_close(1000);
    // It keeps its side open. Its place is free all the same, soon.
    crate::support::eventually("its place", || {
        let mut next = Client::connect(worker.address);
        next.send_bytes(crate::support::client::handshake("/handler/usual").as_bytes());
        next.head().status == 101
    });
}

#[test]
fn a_client_that_takes_nothing_for_the_close_timeout_is_cut_off_without_a_close_frame() {
    let bus = TestBus::with(&BusOptions::default());
    let limits = Limits {
        close_timeout: Duration::from_millis(300),
        max_connections: Some(2),
        ..Limits::default()
    };
    let setup = Setup { limits, ..setup() };
    let worker = Worker::with(bus.name(), setup);
    let mut stalled = Client::connect_narrow(worker.address).opened("/handler/usual");
    let mut other = Client::open(worker.address, "/handler/usual");
    for client in [&mut stalled, &mut other] {
        client.text("subscribe room:all");
        assert!(client.message().starts_with("subscribed "));
    }
    // More than all buffers on the way take; and what is left of one that was begun is more than they
    // would take while the client sleeps.
    let message = "x".repeat(2_000_000);
    for _ in 0..6 {
        publish(&bus.bus, "room:all", message.as_bytes(), 0);
        assert_eq!(other.message().len(), message.len());
    }
    assert_eq!(worker.saw_closed(), 1013, "its handler knows why");
    crate::support::eventually("its place", || {
        let mut next = Client::connect(worker.address);
        next.send_bytes(crate::support::client::handshake("/handler/usual").as_bytes());
        next.head().status == 101
    });
    // It wakes up: whole messages, the beginning of one, and the end. There was no room for a close frame.
    while let Ok(frame) = stalled.next() {
        assert_ne!(frame.opcode, opcode::CLOSE);
        assert_eq!(frame.payload.len(), message.len());
    }
}

#[test]
fn a_slow_reader_gets_the_close_frame_as_long_as_it_goes_on_reading() {
    let bus = TestBus::new();
    let limits = Limits {
        close_timeout: Duration::from_millis(400),
        ..Limits::default()
    };
    let setup = Setup { limits, ..setup() };
    let worker = Worker::with(bus.name(), setup);
    let text = "x".repeat(10_000);
    let mut client = Client::connect_narrow(worker.address).opened("/handler/usual");
    client.text(&format!("say-times 1000 {text}"));
    client.text("close 4002");
    // One message every 100 ms for more than the time-out, then the rest.
    for number in 0..1000 {
        assert_eq!(client.message().len(), text.len());
        if number % 60 == 0 && number < 900 {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    client.expect_close(4002);
}
