//! permessage-deflate on real sockets: clients with and without it on the same topics, and clients
//! that mean harm with it.

use std::fmt::Write;

use fanbus::actors::limits::Limits;
use fanbus::actors::outbox::Overflow;
use fanbus::ipc::BusOptions;

use super::setup;
use crate::support::client::{Client, frame, opcode};
use crate::support::deflate;
use crate::support::handler::publish;
use crate::support::worker::{Seen, Setup, TestBus, Worker};

fn with(bus: &TestBus, limits: Limits) -> Worker {
    let setup = Setup {
        limits,
        compression: true,
        ..setup()
    };
    Worker::with(bus.name(), setup)
}

fn start(bus: &TestBus) -> Worker {
    with(bus, Limits::default())
}

/// A text that shrinks, but not to nothing.
fn text(number: usize, words: usize) -> String {
    let mut text = format!("{number}:");
    for word in 0..words {
        let random = (number + word).wrapping_mul(2_654_435_761) % 1000;
        write!(text, " hello {random}").expect("a String takes all");
    }
    text
}

#[test]
fn only_routes_that_compress_answer_and_only_clients_that_offer() {
    let bus = TestBus::new();
    let plain = Worker::with(bus.name(), setup());
    let deflating = start(&bus);
    let offer = deflate::handshake("/echo");
    let without = crate::support::client::handshake("/echo");
    for (worker, request, agreed) in [
        (&plain, &offer, None),
        (&deflating, &offer, Some(deflate::AGREED)),
        (&deflating, &without, None),
    ] {
        let mut client = Client::connect(worker.address);
        client.send_bytes(request.as_bytes());
        let answer = client.head();
        assert_eq!(answer.status, 101);
        assert_eq!(answer.header("sec-websocket-extensions"), agreed);
        // The client refuses deflated messages here: it has not agreed.
        if agreed.is_none() {
            client.text(&"x".repeat(10_000));
            assert_eq!(client.message().len(), 10_006);
        }
    }
    let malformed = offer.replace("permessage-deflate;", "permessage-deflate; =");
    let mut client = Client::connect(deflating.address);
    client.send_bytes(malformed.as_bytes());
    assert_eq!(client.answer().status, 400);
}

#[test]
fn echo_relay_and_handler_read_and_send_deflated_messages() {
    let bus = TestBus::new();
    let worker = start(&bus);
    for (path, said, prefix) in [
        ("/echo", "", "Echo: "),
        ("/relay/here", "", ""),
        ("/handler/usual", "say ", ""),
    ] {
        let mut client = Client::open_deflating(worker.address, path);
        for words in [0, 1, 100, 20_000] {
            let text = text(words, words);
            client.send_deflated(opcode::TEXT, format!("{said}{text}").as_bytes());
            client.text(&format!("{said}{text}"));
            for _ in 0..2 {
                assert_eq!(client.message(), format!("{prefix}{text}"), "{path}");
            }
        }
        assert_eq!(client.deflated, 4, "{path}: small messages stay plain");
    }
    let mut client = Client::open_deflating(worker.address, "/echo");
    let bytes: Vec<u8> = (0..1000_u32).flat_map(u32::to_le_bytes).collect();
    client.send_deflated(opcode::BINARY, &bytes);
    let echo = client.frame();
    assert_eq!(
        (echo.opcode, &echo.payload[6..]),
        (opcode::BINARY, &bytes[..])
    );
}

#[test]
fn clients_with_and_without_it_get_the_same_in_the_same_order() {
    const COUNT: usize = 500;
    let bus = TestBus::new();
    let workers = [(); 2].map(|()| start(&bus));
    let mut clients = Vec::new();
    for worker in &workers {
        for _ in 0..2 {
            clients.push(Client::open(worker.address, "/relay/all"));
            clients.push(Client::open_deflating(worker.address, "/relay/all"));
        }
    }
    let sent: Vec<String> = (0..COUNT)
        .map(|number| text(number, number % 100))
        .collect();
    let mut sender = clients.remove(1);
    for (number, message) in sent.iter().enumerate() {
        if number % 2 == 0 {
            sender.text(message);
        } else {
            sender.send_deflated(opcode::TEXT, message.as_bytes());
        }
    }
    let large = sent.iter().filter(|message| message.len() >= 128).count();
    clients.push(sender);
    for (at, client) in clients.iter_mut().enumerate() {
        for message in &sent {
            assert_eq!(client.message(), *message, "client {at}");
        }
    }
    let deflated: usize = clients.iter().map(|client| client.deflated).sum();
    assert_eq!(deflated, 4 * large, "four of eight clients");
}

#[test]
fn a_session_on_two_topics_and_one_that_is_left_out_get_theirs_deflated() {
    const COUNT: usize = 300;
    let bus = TestBus::new();
    let worker = start(&bus);
    let mut both = Client::open_deflating(worker.address, "/handler/usual");
    let mut one = Client::open_deflating(worker.address, "/handler/usual");
    let mut plain = Client::open(worker.address, "/handler/usual");
    for (client, topics) in [
        (&mut both, &["a", "b"][..]),
        (&mut one, &["a"]),
        (&mut plain, &["a", "b"]),
    ] {
        for topic in topics {
            client.text(&format!("subscribe {topic}"));
            client.message();
        }
    }
    for number in 0..COUNT {
        publish(
            &bus.bus,
            ["a", "b"][number % 2],
            text(number, 60).as_bytes(),
            0,
        );
    }
    for number in 0..COUNT {
        let expected = text(number, 60);
        assert_eq!(both.message(), expected);
        assert_eq!(plain.message(), expected);
        if number % 2 == 0 {
            assert_eq!(one.message(), expected);
        }
    }
    one.text(&format!("publish-to-others a {}", text(1, 70)));
    one.text(&format!("publish a {}", text(2, 70)));
    assert_eq!(one.message(), text(2, 70), "not what it sent to others");
    for client in [&mut both, &mut plain] {
        assert_eq!(
            (client.message(), client.message()),
            (text(1, 70), text(2, 70))
        );
    }
    assert_eq!((both.deflated, one.deflated), (COUNT + 2, COUNT / 2 + 1));
}

#[test]
fn what_waits_for_a_slow_client_is_deflated_whole_and_in_order() {
    const COUNT: usize = 300;
    let bus = TestBus::with(&BusOptions::default());
    let limits = Limits {
        max_queue_bytes: 1 << 30,
        ..Limits::default()
    };
    let worker = with(&bus, limits);
    let mut slow = Client::connect_narrow(worker.address).opened_deflating("/relay/room");
    let mut publisher = Client::open(worker.address, "/handler/usual");
    let text = text(0, 1000);
    for _ in 0..5 {
        // In one go, on the thread that delivers them: what the socket takes of a turn ends in the
        // middle of some message.
        publisher.text(&format!("publish-numbered room:room {COUNT} {text}"));
        publisher.text("say published");
        assert_eq!(publisher.message(), "published");
        for number in 0..COUNT {
            assert_eq!(slow.message(), format!("{number} {text}"));
        }
    }
    assert_eq!(slow.deflated, 5 * COUNT);
}

#[test]
fn a_handler_that_sends_to_a_slow_client_is_credited_for_what_it_counted() {
    const COUNT: usize = 2000;
    let bus = TestBus::new();
    let worker = start(&bus);
    let mut client = Client::connect_narrow(worker.address).opened_deflating("/handler/usual");
    let mut sender = client.sender();
    sender.text(&format!("say-times {COUNT} {}", text(7, 1000)));
    for _ in 0..COUNT {
        assert_eq!(client.message(), text(7, 1000));
    }
    // The link is only seen by a handler that does not receive.
    let mut deaf = Client::connect_narrow(worker.address).opened_deflating("/handler/deaf");
    deaf.text("hello");
    let (session, link) = worker.saw("the message", |seen| match seen {
        Seen::Unreceived(session, link, _) => Some((*session, link.clone())),
        _ => None,
    });
    let message = text(7, 1000);
    let header =
        fanbus::actors::frame::message_header(fanbus::actors::frame::Kind::Text, message.len());
    for _ in 0..COUNT {
        link.sent(header.len() + message.len());
        worker
            .orders
            .post(|commands| commands.push_send(session, &[&header, message.as_bytes()]));
    }
    for _ in 0..COUNT {
        assert_eq!(deaf.message(), message);
    }
    crate::support::eventually("all is credited", || link.queued() == 0);
}

#[test]
fn what_cannot_be_inflated_closes_its_own_session_only() {
    let bus = TestBus::new();
    let worker = start(&bus);
    let mut other = Client::open_deflating(worker.address, "/echo");
    let bomb = deflate::frame(opcode::BINARY, &vec![0; (1 << 20) + 1]);
    let cases = [
        (1009, bomb),
        (
            1007,
            frame(true, deflate::RSV1 | opcode::TEXT, b"no deflated data"),
        ),
        (1007, deflate::frame(opcode::TEXT, b"\xFF")),
        (1002, frame(true, deflate::RSV1 | opcode::PING, b"")),
    ];
    for path in ["/echo", "/relay/here", "/handler/usual"] {
        for (code, bytes) in &cases {
            let mut client = Client::open_deflating(worker.address, path);
            client.send_bytes(bytes);
            client.expect_close(*code);
            other.send_deflated(opcode::TEXT, b"still here");
            assert_eq!(other.message(), "Echo: still here");
        }
        let mut plain = Client::open(worker.address, path);
        plain.send_deflated(opcode::TEXT, b"not agreed on");
        plain.expect_close(1002);
    }
}

#[test]
fn many_messages_that_inflate_a_thousandfold_wait_for_the_handler() {
    const LEN: usize = 1 << 20;
    const COUNT: usize = 40;
    let bus = TestBus::new();
    let worker = start(&bus);
    let mut client = Client::open_deflating(worker.address, "/handler/deaf");
    // All of them fit one read.
    client.send_bytes(&deflate::frame(opcode::BINARY, &vec![0; LEN]).repeat(COUNT));
    let mut echo = Client::open(worker.address, "/echo");
    let mut received = 0;
    while received < COUNT {
        let first = worker.saw("a message", |seen| match seen {
            Seen::Unreceived(session, link, len) => Some((*session, link.clone(), *len)),
            _ => None,
        });
        // What else the worker has taken in with it, it has told by now.
        echo.text("are you there");
        echo.message();
        let (session, link, len) = first;
        assert_eq!(len, LEN);
        received += 1;
        let unread = worker.count_unreceived();
        assert!(unread <= 1, "{unread} more were handed over");
        if link.received(len) {
            worker.order(fanbus::actors::hub::Command::Resume { session });
        }
    }
}

#[test]
fn many_messages_that_inflate_a_thousandfold_do_not_overrun_the_bus() {
    const COUNT: usize = 100;
    let bus = TestBus::new();
    let limits = Limits {
        max_queue_bytes: 1 << 30,
        overflow: Overflow::Close,
        ..Limits::default()
    };
    let worker = with(&bus, limits);
    let len = bus.bus.max_message_bytes() - 100;
    let mut listener = Client::open_deflating(worker.address, "/relay/all");
    let mut plain = Client::open(worker.address, "/relay/all");
    let mut sender = Client::open_deflating(worker.address, "/relay/all");
    let all = deflate::frame(opcode::BINARY, &vec![7; len]).repeat(COUNT);
    assert!(all.len() < 64 * 1024, "one read");
    sender.send_bytes(&all);
    for _ in 0..COUNT {
        for client in [&mut listener, &mut plain, &mut sender] {
            assert_eq!(client.frame().payload.len(), len);
        }
    }
}
