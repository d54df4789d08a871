//! What one client may do and cost, on every kind of route.

use std::time::Duration;

use fanbus::actors::limits::Limits;
use fanbus::actors::outbox::{FRAME_OVERHEAD, Overflow};

use super::setup;
use crate::support::client::{Client, End, frame, header, opcode};
use crate::support::handler::{Seen, publish};
use crate::support::worker::{Setup, TestBus, Worker};

const ROUTES: [&str; 3] = ["/echo", "/relay/room", "/handler/deaf"];

fn with(limits: Limits) -> (TestBus, Worker) {
    let bus = TestBus::new();
    let worker = Worker::with(bus.name(), Setup { limits, ..setup() });
    (bus, worker)
}

/// Reads to the close frame, ignoring what comes before it.
#[track_caller]
fn closed_with(client: &mut Client, code: u16, what: &str) {
    assert_eq!(client.closed().1, code, "{what}");
    assert_eq!(client.end(), End::Finished, "{what}");
}

#[test]
fn what_is_too_large_or_wrong_closes_with_its_code_on_every_route() {
    let (_bus, worker) = with(Limits {
        max_message_size: 1000,
        ..Limits::default()
    });
    let big = [b'x'; 1001];
    let fragments = [
        frame(false, opcode::TEXT, &big[..600]),
        frame(false, opcode::CONTINUATION, &big[..401]),
    ];
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("text too large", frame(true, opcode::TEXT, &big), 1009),
        ("binary too large", frame(true, opcode::BINARY, &big), 1009),
        (
            "only announced",
            header(true, opcode::BINARY, 1 << 40),
            1009,
        ),
        ("fragments too large", fragments.concat(), 1009),
        ("bad UTF-8", frame(true, opcode::TEXT, b"\xFF"), 1007),
        ("not masked", b"\x81\x01x".to_vec(), 1002),
        ("reserved opcode", frame(true, 3, b""), 1002),
        ("long ping", header(true, opcode::PING, 126), 1002),
        (
            "bad close code",
            frame(true, opcode::CLOSE, &[3, 0xED]),
            1002,
        ),
    ];
    for path in ROUTES {
        for (what, bytes, code) in &cases {
            let mut client = Client::open(worker.address, path);
            client.send_bytes(bytes);
            closed_with(&mut client, *code, &format!("{what} on {path}"));
        }
    }
}

#[test]
fn the_close_frame_comes_before_the_end_although_the_client_goes_on_sending() {
    let (_bus, worker) = with(Limits {
        max_message_size: 1000,
        ..Limits::default()
    });
    for _ in 0..20 {
        let mut client = Client::open(worker.address, "/echo");
        let mut bytes = header(true, opcode::BINARY, 1 << 20);
        bytes.resize(1 << 20, 0);
        client.send_bytes(&bytes);
        client.half_close();
        closed_with(&mut client, 1009, "a megabyte behind the header");
    }
}

#[test]
fn the_rate_limit_counts_messages_pings_and_pongs() {
    let (_bus, worker) = with(Limits {
        rate_limit: Some(10),
        ..Limits::default()
    });
    for path in ROUTES {
        for opcode in [opcode::TEXT, opcode::BINARY, opcode::PING, opcode::PONG] {
            let mut client = Client::open(worker.address, path);
            let burst = frame(true, opcode, b"x").repeat(10);
            client.send_bytes(&burst);
            client.send_bytes(&burst);
            closed_with(&mut client, 1008, path);
        }
    }
    // A message in fragments is one message.
    let mut client = Client::open(worker.address, "/echo");
    let mut pieces = frame(false, opcode::TEXT, b"a");
    pieces.extend(frame(false, opcode::CONTINUATION, b"a").repeat(100));
    pieces.extend(frame(true, opcode::CONTINUATION, b"a"));
    client.send_bytes(&pieces);
    assert_eq!(client.message().len(), "Echo: ".len() + 102);
}

#[test]
fn a_silent_client_is_pinged_and_then_closed() {
    let (_bus, worker) = with(Limits {
        heartbeat_interval: Some(Duration::from_millis(200)),
        timeout: Some(Duration::from_millis(800)),
        ..Limits::default()
    });
    for path in ROUTES {
        let mut client = Client::open(worker.address, path);
        let (before, code) = client.closed();
        assert_eq!(code, 1001, "{path}");
        assert!((1..=4).contains(&before.len()), "{path}: {before:?}");
        assert!(before.iter().all(|frame| frame.opcode == opcode::PING));
    }
}

#[test]
fn a_client_gets_ticks_that_its_program_sees_whatever_else_it_gets() {
    let (bus, worker) = with(Limits {
        heartbeat_interval: Some(Duration::from_millis(300)),
        tick: Some(Duration::from_millis(200)),
        ..Limits::default()
    });
    for path in ["/echo", "/relay/room", "/handler/usual"] {
        let mut client = Client::open(worker.address, path);
        let mut ticks = 0;
        for number in 0.. {
            let frame = client.frame();
            match frame.opcode {
                opcode::PING => client.send(opcode::PONG, &frame.payload),
                opcode::TEXT if frame.payload.is_empty() => ticks += 1,
                opcode::TEXT => {}
                other => panic!("{path}: {other}"),
            }
            publish(&bus.bus, "room:room", format!("{number}").as_bytes(), 0);
            if ticks == 3 {
                break;
            }
        }
        client.close(1000);
        assert_eq!(client.closed().1, 1000, "{path}");
    }
}

#[test]
fn client_that_answers_pings_stays_and_half_a_frame_does_not_count_as_an_answer() {
    let (_bus, worker) = with(Limits {
        heartbeat_interval: Some(Duration::from_millis(100)),
        timeout: Some(Duration::from_millis(500)),
        ..Limits::default()
    });
    let mut answers = Client::open(worker.address, "/echo");
    let mut stops = Client::open(worker.address, "/echo");
    stops.send_bytes(&frame(true, opcode::TEXT, b"never finished")[..10]);
    for _ in 0..15 {
        let ping = answers.frame();
        assert_eq!(ping.opcode, opcode::PING);
        answers.send(opcode::PONG, &ping.payload);
    }
    assert_eq!(stops.closed().1, 1001);
    answers.text("here");
    assert_eq!(answers.message(), "Echo: here");
}

#[test]
fn a_client_is_not_silent_because_its_handler_does_not_receive() {
    let (_bus, worker) = with(Limits {
        heartbeat_interval: Some(Duration::from_millis(100)),
        timeout: Some(Duration::from_millis(400)),
        max_queue_bytes: 10_000,
        ..Limits::default()
    });
    let mut client = Client::open(worker.address, "/handler/deaf");
    for _ in 0..11 {
        client.send(opcode::BINARY, &[0; 1000]);
    }
    // It is no longer read from, and answers pings all the same.
    for _ in 0..12 {
        let ping = client.frame();
        assert_eq!(ping.opcode, opcode::PING, "{ping:?}");
        client.send(opcode::PONG, &ping.payload);
    }
    let unreceived = |seen: &Seen| match seen {
        Seen::Unreceived(session, link, len) => Some((*session, link.clone(), *len)),
        _ => None,
    };
    let mut resumed = false;
    while !resumed {
        let (session, link, len) = worker.saw("a message", unreceived);
        resumed = link.received(len);
        if resumed {
            worker.order(fanbus::actors::hub::Command::Resume { session });
        }
    }
    client.close(1000);
    assert_eq!(client.closed().1, 1000);
}

/// Publishes until a client that does not read must have overflowed, and reads then.
fn overflow(policy: Overflow) -> (Vec<u32>, Option<u16>) {
    const COUNT: u32 = 6000;
    let (bus, worker) = with(Limits {
        overflow: policy,
        max_queue_bytes: 64 * 1024,
        ..Limits::default()
    });
    let mut slow = Client::connect_narrow(worker.address).opened("/relay/room");
    let mut quick = Client::open(worker.address, "/relay/room");
    for number in 0..COUNT {
        let text = format!("{number:>2000}");
        publish(&bus.bus, "room:room", text.as_bytes(), 0);
        // In step with the quick one, so that the worker itself never falls behind.
        assert_eq!(quick.message(), text);
    }
    let number = |frame: &crate::support::client::Frame| {
        let text = str::from_utf8(&frame.payload).expect("text");
        text.trim().parse().expect("a number")
    };
    if policy == Overflow::Close {
        let (before, code) = slow.closed();
        return (before.iter().map(number).collect(), Some(code));
    }
    // The pong comes in front of what waits, the answer to a farewell behind it.
    slow.send(opcode::PING, b"in front");
    slow.close(1000);
    let (mut before, _) = slow.closed();
    let pong = before.iter().position(|frame| frame.opcode == opcode::PONG);
    let pong = before.remove(pong.expect("a pong"));
    assert_eq!(pong.payload, b"in front");
    (before.iter().map(number).collect(), None)
}

#[test]
fn a_pong_does_not_wait_behind_messages_that_wait() {
    const COUNT: usize = 200;
    let (bus, worker) = with(Limits {
        max_queue_bytes: 64 << 20,
        ..Limits::default()
    });
    let mut slow = Client::connect_narrow(worker.address).opened("/relay/room");
    let mut quick = Client::open(worker.address, "/relay/room");
    for number in 0..COUNT {
        let text = format!("{number:>50000}");
        publish(&bus.bus, "room:room", text.as_bytes(), 0);
        assert_eq!(quick.message(), text);
    }
    slow.send(opcode::PING, b"are you there?");
    let (mut before, mut after) = (0, 0);
    let mut pong = None;
    while before + after < COUNT {
        let frame = slow.frame();
        if frame.opcode == opcode::PONG {
            pong = Some(frame.payload);
        } else if pong.is_none() {
            before += 1;
        } else {
            after += 1;
        }
    }
    assert_eq!(pong.expect("a pong"), b"are you there?");
    // All but what the system below had taken already.
    assert!(after > COUNT / 4, "{after} of {COUNT} came behind it");
}

#[test]
fn a_client_that_does_not_read_is_closed_by_default_and_gets_what_came_before() {
    let (got, code) = overflow(Overflow::Close);
    assert_eq!(code, Some(1013));
    assert!(
        got.iter().copied().eq(0..got.len() as u32),
        "no gap before the close"
    );
    assert!(got.len() < 6000);
}

#[test]
fn drop_oldest_keeps_the_newest_in_order() {
    let (got, _) = overflow(Overflow::DropOldest);
    assert!(got.is_sorted_by(|one, next| one < next));
    assert!(got.len() < 6000, "something was dropped");
    assert_eq!(got.last(), Some(&5999));
}

#[test]
fn drop_newest_keeps_the_oldest_in_order() {
    let (got, _) = overflow(Overflow::DropNewest);
    assert!(got.is_sorted_by(|one, next| one < next));
    assert!(got.last() < Some(&5999), "the newest did not fit");
    let queued = 64 * 1024 / (2004 + FRAME_OVERHEAD);
    assert!(got.len() > queued, "the oldest all waited");
}

#[test]
fn latest_keeps_the_newest_of_the_topic() {
    let (got, _) = overflow(Overflow::Latest);
    assert!(got.is_sorted_by(|one, next| one < next));
    // The last message has taken the place of all that waited. The kernel may still have taken one now and
    // then, but not as many as a queue would hold.
    let waited = got.iter().filter(|&&number| number >= 5000).count();
    let queued = 64 * 1024 / (2004 + FRAME_OVERHEAD);
    assert!(
        waited < queued / 4 && got.last() == Some(&5999),
        "{waited} of the newest came"
    );
}
