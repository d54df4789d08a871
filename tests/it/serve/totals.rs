//! Crowds: what each of them may have is bounded, and so is the sum.

use std::sync::Arc;
use std::thread;

use fanbus::actors::close::CloseCause;
use fanbus::actors::hub::Command;
use fanbus::actors::limits::Limits;
use fanbus::actors::outbox::{FRAME_OVERHEAD, Overflow};
use fanbus::actors::partials::MOST_TURNS;
use fanbus::http::config::Config;
use fanbus::ipc::{BusOptions, ReplayRange};

use super::setup;
use crate::support::client::{Client, Frame, frame, header, opcode};
use crate::support::events::Events;
use crate::support::eventually;
use crate::support::handler::{Seen, publish};
use crate::support::worker::{Setup, TestBus, Worker};

const BUDGET: usize = 4 << 20;

fn with(limits: Limits, config: Config) -> (TestBus, Worker) {
    let bus = TestBus::new();
    let worker = Worker::with(
        bus.name(),
        Setup {
            limits,
            config,
            ..setup()
        },
    );
    (bus, worker)
}

fn with_queues_of(bytes: usize) -> (TestBus, Worker) {
    with(
        Limits::default(),
        Config {
            queue_memory_bytes: bytes,
            ..Config::default()
        },
    )
}

/// Clients that do not read.
fn crowd(worker: &Worker, path: &str, count: usize) -> Vec<Client> {
    let open = |_| Client::connect_narrow(worker.address).opened(path);
    (0..count).map(open).collect()
}

/// The reason of a close with 1013, if that is how it ends.
fn reason(close: &Frame) -> String {
    let (code, reason) = close.payload.split_at(2);
    assert_eq!(code, 1013_u16.to_be_bytes());
    String::from_utf8(reason.to_vec()).expect("text")
}

#[test]
fn a_crowd_that_does_not_read_takes_no_more_than_the_budget_and_the_largest_queues_go() {
    const COUNT: usize = 40;
    let (_bus, worker) = with_queues_of(BUDGET);
    let waiting = || worker.replays.gauge().held();
    let mut reader = Client::open(worker.address, "/handler/usual");
    // A small queue: it is not the one to go.
    let mut small = Client::connect_narrow(worker.address).opened("/handler/usual");
    small.text(&format!("say-times 12 {}", "s".repeat(50_000)));
    let mut deaf = crowd(&worker, "/handler/usual", COUNT);
    for client in &mut deaf {
        // A megabyte for each of them, of which the system below takes a part.
        client.text(&format!("say-times 20 {}", "x".repeat(50_000)));
        reader.text("say I read");
        assert_eq!(reader.message(), "I read");
        eventually("room", || waiting() <= BUDGET);
    }
    let (mut closed, mut served) = (0, 0);
    for client in &mut deaf {
        for count in 0.. {
            let frame = client.frame();
            if frame.opcode == opcode::CLOSE {
                assert_eq!(reason(&frame), CloseCause::QueuesFull.reason());
                closed += 1;
                break;
            }
            assert_eq!(frame.payload.len(), 50_000, "whole messages");
            if count == 19 {
                served += 1;
                break;
            }
        }
    }
    assert!(
        closed > COUNT / 2 && served > 0,
        "{closed} closed, {served} served"
    );
    for _ in 0..12 {
        assert_eq!(small.message().len(), 50_000);
    }
    drop(deaf);
    eventually("the memory is given back", || waiting() == 0);
    reader.text("say still");
    assert_eq!(reader.message(), "still");
}

#[test]
fn what_is_published_is_counted_once_for_all_queues_that_it_waits_in() {
    const COUNT: usize = 120;
    let (bus, worker) = with_queues_of(BUDGET);
    let mut slow = crowd(&worker, "/relay/room", 30);
    let mut quick = Client::open(worker.address, "/relay/room");
    let message = |number: usize| format!("{number:>8000}");
    for number in 0..COUNT {
        publish(&bus.bus, "room:room", message(number).as_bytes(), 0);
        assert_eq!(quick.message(), message(number));
    }
    let held = worker.replays.gauge().held();
    assert!((100_000..2_000_000).contains(&held), "{held} bytes");
    for client in &mut slow {
        for number in 0..COUNT {
            assert_eq!(client.message(), message(number));
        }
    }
    eventually("all is given back", || worker.replays.gauge().held() == 0);
}

#[test]
fn a_client_that_got_one_huge_message_is_cut_off_when_that_alone_is_too_much() {
    let (_bus, worker) = with_queues_of(BUDGET / 2);
    let mut deaf = crowd(&worker, "/handler/usual", 6);
    for client in &mut deaf {
        client.text(&format!("say-times 1 {}", "x".repeat(1_000_000)));
    }
    eventually("room", || {
        let held = worker.replays.gauge().held();
        0 < held && held <= BUDGET / 2
    });
    let mut reader = Client::open(worker.address, "/handler/usual");
    reader.text("say I read");
    assert_eq!(reader.message(), "I read");
    drop(deaf);
    eventually("all is given back", || worker.replays.gauge().held() == 0);
}

fn with_messages_of(bytes: usize) -> (TestBus, Worker) {
    with(
        Limits::default(),
        Config {
            message_memory_bytes: bytes,
            ..Config::default()
        },
    )
}

#[test]
fn long_messages_of_a_crowd_take_turns_and_all_of_them_arrive() {
    const BYTES: usize = 700_000;
    let (_bus, worker) = with_messages_of(1 << 20);
    let half = BYTES / 2;
    let whole = frame(true, opcode::BINARY, &vec![7; BYTES]);
    let mut clients: Vec<_> = (0..50)
        .map(|_| Client::open(worker.address, "/echo"))
        .collect();
    let mut short = Client::open(worker.address, "/echo");
    thread::scope(|scope| {
        for client in &mut clients {
            let whole = &whole;
            scope.spawn(move || {
                client.send_bytes(&whole[..half]);
                client.send_bytes(&whole[half..]);
                assert_eq!(client.frame().payload.len(), "Echo: ".len() + BYTES);
            });
        }
        for number in 0..20 {
            short.text(&number.to_string());
            assert_eq!(short.message(), format!("Echo: {number}"));
        }
    });
}

#[test]
fn a_client_that_is_closed_in_the_middle_of_a_message_gives_up_its_beginning() {
    let limits = Limits {
        rate_limit: Some(3),
        ..Limits::default()
    };
    let config = Config {
        message_memory_bytes: 1 << 20,
        ..Config::default()
    };
    let (_bus, worker) = with(limits, config);
    // Several times the memory in all: if any of it stayed counted, the last ones would wait.
    for _ in 0..40 {
        let mut client = Client::open(worker.address, "/echo");
        let mut bytes = frame(false, opcode::BINARY, &vec![7; 60_000]);
        bytes.extend(frame(true, opcode::PING, b"").repeat(5));
        client.send_bytes(&bytes);
        assert_eq!(client.closed().1, 1008);
    }
    let mut client = Client::open(worker.address, "/echo");
    client.send(opcode::BINARY, &vec![7; 900_000]);
    assert_eq!(client.frame().payload.len(), "Echo: ".len() + 900_000);
}

#[test]
fn clients_that_hold_half_a_message_for_ever_are_closed_when_others_wait() {
    // Some fill the memory, some have a turn, and some wait for one.
    const HOLDERS: usize = 2 * MOST_TURNS;
    let bus = TestBus::new();
    let config = Config {
        message_memory_bytes: 1 << 20,
        ..Config::default()
    };
    let watched = Setup {
        config,
        watched: true,
        ..setup()
    };
    let worker = Worker::with(bus.name(), watched);
    let message = vec![7; 200_000];
    let mut begun = header(true, opcode::BINARY, message.len() as u64);
    begun.resize(100_000, 0);
    let mut holders: Vec<_> = (0..HOLDERS)
        .map(|_| {
            let mut client = Client::open(worker.address, "/echo");
            client.send_bytes(&begun);
            client
        })
        .collect();
    assert_eq!(worker.saw_closed(), 1013);
    let mut others: Vec<_> = (0..4)
        .map(|_| Client::open(worker.address, "/echo"))
        .collect();
    for other in &mut others {
        other.send(opcode::BINARY, &message);
        other.text("short");
    }
    for other in &mut others {
        assert_eq!(other.frame().payload.len(), "Echo: ".len() + message.len());
        assert_eq!(other.message(), "Echo: short");
    }
    let rest = frame(true, opcode::BINARY, &message)[begun.len()..].to_vec();
    let mut closed = 0;
    for holder in &mut holders {
        holder.try_send(&rest);
        let frame = holder.frame();
        if frame.opcode == opcode::CLOSE {
            assert_eq!(reason(&frame), CloseCause::MessageTooSlow.reason());
            closed += 1;
        } else {
            assert_eq!(frame.payload.len(), "Echo: ".len() + message.len());
        }
    }
    assert!((1..HOLDERS).contains(&closed), "{closed} were closed");
}

/// How many messages of 1,000 bytes a client gets that reads when all have been published.
fn got_late(overflow: Overflow) -> usize {
    const COUNT: usize = 3000;
    let limits = Limits {
        overflow,
        max_queue_bytes: 3000,
        ..Limits::default()
    };
    let (bus, worker) = with(limits, Config::default());
    // What its own system holds is the same either way, and little.
    let slow = Client::connect_with_buffer(worker.address, 8 * 1024);
    let mut slow = slow.opened("/relay/room");
    let mut quick = Client::open(worker.address, "/relay/room");
    for number in 0..COUNT {
        let text = format!("{number:>1000}");
        publish(&bus.bus, "room:room", text.as_bytes(), 0);
        assert_eq!(quick.message(), text);
    }
    let mut got = 1;
    while slow.message().trim() != (COUNT - 1).to_string() {
        got += 1;
    }
    got
}

#[test]
fn with_latest_hardly_anything_old_waits_in_the_system_below() {
    let (latest, others) = (got_late(Overflow::Latest), got_late(Overflow::DropOldest));
    // The system below has a send buffer of 128 KiB here.
    assert!(2 * latest < others, "{latest} messages instead of {others}");
}

/// Messages of the topic that a crowd resumes. Deflating halves each of them.
const PAST: usize = 500;
const PAST_BYTES: usize = 900;

fn past(number: usize) -> String {
    let mut state = number as u64 + 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'0' + (state >> 32) as u8 % 64)
    };
    let half: String = (0..PAST_BYTES / 2).map(next).collect();
    half.repeat(2)
}

/// A worker of a bus that has this past.
fn with_past(compression: bool) -> (TestBus, Worker) {
    let bus = TestBus::with(&BusOptions::default());
    let config = Config {
        queue_memory_bytes: 64 << 20,
        ..Config::default()
    };
    let worker = Worker::with(
        bus.name(),
        Setup {
            config,
            compression,
            ..setup()
        },
    );
    for number in 0..PAST {
        publish(&bus.bus, "feed", past(number).as_bytes(), 0);
    }
    (bus, worker)
}

/// A client that has asked for all of this past, and does not read.
fn resume(bus: &TestBus, worker: &Worker, mut client: Client) -> Client {
    client.text("resume");
    let (session, link) = worker.saw("a client that asks", |seen| match seen {
        Seen::Unreceived(session, link, _) => Some((*session, Arc::clone(link))),
        _ => None,
    });
    let from = bus.bus.end();
    let past = bus
        .bus
        .replay("feed", ReplayRange::Last(PAST), from, 1 << 20);
    let pieces = worker.replays.share(&past);
    link.sent(past.frames.len());
    worker.order(Command::SendPast { session, pieces });
    client
}

/// Reads the replay of each client. The worker never holds more than the messages, in so many forms, and the
/// overhead of each message in each outbox.
fn holds_its_past_once<C>(
    worker: &Worker,
    mut crowd: Vec<C>,
    forms: usize,
    message: impl Fn(&mut C) -> String,
) {
    let held = || worker.replays.gauge().held();
    let most = PAST * (forms * (PAST_BYTES + 50) + crowd.len() * FRAME_OVERHEAD);
    for client in &mut crowd {
        let now = held();
        assert!(now <= most, "{now} instead of {most} bytes");
        for number in 0..PAST {
            assert_eq!(message(client), past(number));
        }
    }
    eventually("all is given back", || held() == 0);
}

#[test]
fn a_crowd_that_resumes_holds_the_messages_that_it_resumes_once() {
    let (bus, worker) = with_past(false);
    let one = |_| {
        let client = Client::connect_narrow(worker.address).opened("/handler/deaf");
        resume(&bus, &worker, client)
    };
    let crowd = (0..100).map(one).collect();
    holds_its_past_once(&worker, crowd, 1, Client::message);
}

#[test]
fn a_crowd_with_compression_that_resumes_holds_the_deflated_messages_once() {
    let (bus, worker) = with_past(true);
    let one = |_| {
        let client = Client::connect_narrow(worker.address).opened_deflating("/handler/deaf");
        resume(&bus, &worker, client)
    };
    let crowd = (0..100).map(one).collect();
    holds_its_past_once(&worker, crowd, 2, Client::message);
}

#[test]
fn a_crowd_of_event_streams_that_come_back_holds_the_events_once() {
    let (bus, worker) = with_past(false);
    let nothing = format!("{}--1", bus.bus.epoch());
    let one = |_| {
        let client = Client::connect_narrow(worker.address);
        Events::on(client, "feed", Some(&nothing)).expect("it is let in")
    };
    let crowd = (0..100).map(one).collect();
    holds_its_past_once(&worker, crowd, 1, Events::message);
}

#[test]
fn small_messages_of_the_past_wait_together() {
    const COUNT: usize = 5_000;
    let bus = TestBus::with(&BusOptions::default());
    let worker = Worker::with(bus.name(), setup());
    for number in 0..COUNT {
        publish(&bus.bus, "feed", format!("{number:>50}").as_bytes(), 0);
    }
    let past = bus
        .bus
        .replay("feed", ReplayRange::Last(COUNT), bus.bus.end(), 1 << 20);
    let pieces = worker.replays.share(&past);
    let bytes: usize = pieces.iter().map(|piece| piece.bytes().len()).sum();
    assert_eq!((bytes, worker.replays.gauge().held()), (COUNT * 52, 0));
    assert!(pieces.len() <= bytes / 4096 + 1, "{}", pieces.len());
}
