//! Messages there and back on one worker: echo, relay, the handler's own topics.

use super::setup;
use crate::support::client::{Client, frame, handshake, opcode};
use crate::support::worker::{TestBus, Worker};

#[test]
fn an_echo_has_the_prefix_and_keeps_text_and_binary_apart() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::open(worker.address, "/echo");
    for payload in [String::new(), "hi".to_owned(), "x".repeat(70_000)] {
        for opcode in [opcode::TEXT, opcode::BINARY] {
            client.send(opcode, payload.as_bytes());
            let echo = client.frame();
            assert_eq!(echo.opcode, opcode);
            assert_eq!(echo.payload, format!("Echo: {payload}").into_bytes());
        }
    }
}

#[test]
fn frames_may_be_cut_and_joined_in_any_way() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::open(worker.address, "/echo");
    let mut bytes = frame(true, opcode::TEXT, b"one");
    bytes.extend(frame(false, opcode::TEXT, b"tw"));
    bytes.extend(frame(true, opcode::PING, b"between"));
    bytes.extend(frame(false, opcode::CONTINUATION, b""));
    bytes.extend(frame(true, opcode::CONTINUATION, b"o"));
    for pieces in [1, 2, 3, 7, bytes.len()] {
        for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
            client.send_bytes(piece);
        }
        assert_eq!(client.message(), "Echo: one");
        let pong = client.frame();
        assert_eq!(
            (pong.opcode, &pong.payload[..]),
            (opcode::PONG, &b"between"[..])
        );
        assert_eq!(client.message(), "Echo: two");
    }
}

#[test]
fn frames_that_come_together_with_the_handshake_count() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    for path in ["/echo", "/relay/early", "/handler/usual"] {
        let mut client = Client::connect(worker.address);
        let mut bytes = handshake(path).into_bytes();
        bytes.extend(frame(true, opcode::TEXT, b"say early"));
        client.send_bytes(&bytes);
        assert_eq!(client.head().status, 101);
        assert!(client.message().ends_with("early"), "{path}");
    }
}

#[test]
fn relay_reaches_all_clients_of_its_room_and_no_others() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut here = [(); 3].map(|()| Client::open(worker.address, "/relay/here"));
    let mut there = Client::open(worker.address, "/relay/there");
    here[0].text("hello");
    there.text("other");
    for client in &mut here {
        assert_eq!(client.message(), "hello");
    }
    assert_eq!(there.message(), "other", "and not what the first room got");
}

#[test]
fn the_sender_alone_is_left_out_when_it_wants_to_be() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut sender = Client::open(worker.address, "/handler/usual");
    let mut other = Client::open(worker.address, "/handler/usual");
    for client in [&mut sender, &mut other] {
        client.text("subscribe news");
        assert!(client.message().starts_with("subscribed"));
    }
    sender.text("publish-to-others news one");
    sender.text("publish news two");
    assert_eq!(sender.message(), "two");
    assert_eq!(
        (other.message(), other.message()),
        ("one".into(), "two".into())
    );
}

#[test]
fn a_session_on_two_topics_sees_both_in_the_order_of_the_bus() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut both = Client::open(worker.address, "/handler/usual");
    let mut one = Client::open(worker.address, "/handler/usual");
    for (client, topic) in [(&mut both, "a"), (&mut one, "b")] {
        client.text(&format!("subscribe {topic}"));
        client.message();
    }
    both.text("subscribe b");
    both.message();
    for number in 0..2000 {
        let topic = ["a", "b"][number % 3 % 2];
        crate::support::handler::publish(&bus.bus, topic, number.to_string().as_bytes(), 0);
    }
    for number in 0..2000 {
        assert_eq!(both.message(), number.to_string());
    }
    for number in (0..2000).filter(|number| number % 3 == 1) {
        assert_eq!(one.message(), number.to_string());
    }
}

#[test]
fn after_unsubscribing_nothing_more_comes_and_subscribing_twice_delivers_once() {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), setup());
    let mut client = Client::open(worker.address, "/handler/usual");
    for _ in 0..2 {
        client.text("subscribe news");
        client.message();
    }
    client.text("publish news one");
    client.text("publish news two");
    assert_eq!(
        (client.message(), client.message()),
        ("one".into(), "two".into())
    );
    client.text("unsubscribe news");
    assert_eq!(client.message(), "unsubscribed");
    client.text("publish news three");
    client.text("subscribe news");
    assert!(client.message().starts_with("subscribed"), "and not three");
    client.text("publish news four");
    assert_eq!(client.message(), "four");
}
