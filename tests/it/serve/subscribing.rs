//! The instant of a subscription: nothing from before it, everything from after it, each once.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use fanbus::actors::hub::Command;
use fanbus::actors::topic::Topic;
use fanbus::ipc::BusOptions;

use crate::support::client::Client;
use crate::support::handler::{asked, publish};
use crate::support::worker::{TestBus, Worker};

/// Subscribes as a handler on another thread does, again and again, while somebody publishes.
fn subscribe_and_leave(worker: &Worker, rounds: u32) {
    let topic = Topic::new("race").expect("a topic");
    let mut client = Client::open(worker.address, "/handler/named");
    let session = worker.saw("the session", asked);
    for round in 0..rounds {
        worker.bus.add_interest(topic.hash());
        let from = worker.bus.end();
        // The hub reads on meanwhile: sometimes far, sometimes not at all.
        (0..round % 7 * 100).for_each(|_| std::hint::spin_loop());
        worker.order(Command::Subscribe {
            session,
            topic: topic.clone(),
            from,
        });
        // The messages are their offsets.
        for expected in from..from + u64::from(round % 5) {
            assert_eq!(client.message(), expected.to_string(), "round {round}");
        }
        worker.order(Command::Unsubscribe {
            session,
            topic: topic.clone(),
        });
        client.text("say left");
        let mut next = from + u64::from(round % 5);
        loop {
            match client.message() {
                left if left == "left" => break,
                message => assert_eq!(message, next.to_string(), "round {round}"),
            }
            next += 1;
        }
    }
}

#[test]
fn a_subscription_begins_exactly_where_it_was_made_however_often_it_is_made() {
    let bus = TestBus::new();
    let workers = [(); 2].map(|()| Worker::start(&bus));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut offset = bus.bus.end();
            while !done.load(SeqCst) {
                let next = publish(&bus.bus, "race", offset.to_string().as_bytes(), 0);
                assert_eq!(next, offset, "nobody else publishes");
                offset += 1;
                if offset.is_multiple_of(4) {
                    thread::sleep(Duration::from_micros(50));
                }
            }
        });
        let subscribers = workers
            .each_ref()
            .map(|worker| scope.spawn(|| subscribe_and_leave(worker, 1500)));
        let results = subscribers.map(thread::ScopedJoinHandle::join);
        done.store(true, SeqCst);
        publisher.join().expect("the publisher is well");
        for result in results {
            result.expect("no gap, no double");
        }
    });
}

#[test]
fn a_session_learns_of_a_gap_by_its_close_and_sees_nothing_from_behind_it() {
    let bus = TestBus::with(&BusOptions {
        ring_bytes: 1 << 16,
        log_entries: 64,
        ..BusOptions::default()
    });
    let worker = Worker::start(&bus);
    for _ in 0..10 {
        let mut client = Client::open(worker.address, "/handler/usual");
        client.text("subscribe news");
        client.message();
        // In one go, on the thread that should read them.
        client.text("publish-times news 500");
        client.expect_close(1013);
    }
}

#[test]
fn a_subscription_that_comes_too_late_for_the_bus_closes_instead_of_skipping() {
    let bus = TestBus::with(&BusOptions {
        ring_bytes: 1 << 16,
        log_entries: 64,
        ..BusOptions::default()
    });
    let worker = Worker::start(&bus);
    let mut client = Client::open(worker.address, "/handler/named");
    let session = worker.saw("the session", asked);
    let topic = Topic::new("news").expect("a topic");
    worker.bus.add_interest(topic.hash());
    let from = worker.bus.end();
    for _ in 0..200 {
        publish(&bus.bus, "news", b"gone", 0);
    }
    // The worker's cursor is behind all of it when it answers this.
    client.text("say hello");
    assert_eq!(client.message(), "hello");
    worker.order(Command::Subscribe {
        session,
        topic,
        from,
    });
    client.expect_close(1013);
}
