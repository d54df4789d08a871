//! Floods: hubs that deliver more slowly than clients publish are waited for.

use std::thread;
use std::time::{Duration, Instant};

use fanbus::actors::limits::Limits;
use fanbus::ipc::{Bus, BusOptions, Next};

use crate::support::DEADLINE;
use crate::support::client::{Client, frame, opcode};
use crate::support::worker::{Setup, TestBus, Worker};

/// Messages of a flood: several times what the log holds.
const FLOOD: usize = 150_000;

const OPTIONS: BusOptions = BusOptions {
    ring_bytes: 4 << 20,
    log_entries: 1 << 15,
    history_bytes: 0,
};

/// What a client sends to `path` so that `room:all` gets a message.
fn message(path: &str) -> Vec<u8> {
    match path {
        "/relay/all" => frame(true, opcode::TEXT, b"hi"),
        _ => frame(true, opcode::TEXT, b"publish room:all hi"),
    }
}

fn worker_on(bus: &TestBus) -> Worker {
    let limits = Limits {
        // So that nobody overflows here: it is about the hubs.
        max_queue_bytes: 1 << 30,
        ..Limits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    Worker::with(bus.name(), setup)
}

/// Floods `path` from a thread of its own, which ends when everything was taken in.
fn flood(worker: &Worker, path: &'static str) -> thread::JoinHandle<()> {
    let mut reader = Client::open(worker.address, path);
    let mut sender = reader.sender();
    thread::spawn(move || {
        thread::scope(|scope| {
            scope.spawn(|| while reader.next().is_ok() {});
            sender.send_bytes(&message(path).repeat(FLOOD));
            sender.close(1000);
        });
    })
}

#[test]
fn clients_are_held_while_the_hub_of_another_worker_is_far_behind() {
    for path in ["/relay/all", "/handler/any"] {
        let bus = TestBus::with(&OPTIONS);
        let worker = worker_on(&bus);
        // Stands for another worker's hub, which reads on only when publishing has come to a halt.
        let other = Bus::open(bus.name(), &OPTIONS).expect("the same bus");
        let mut hub = other.subscriber();
        other.keep_pace(hub.offset());
        let start = hub.offset();
        let flood = flood(&worker, path);
        let mut frames = Vec::new();
        let deadline = Instant::now() + DEADLINE;
        while hub.offset() - start < FLOOD as u64 {
            assert!(Instant::now() < deadline, "{path}: it got stuck");
            let end = other.end();
            let is_still = |_| {
                thread::sleep(Duration::from_millis(5));
                other.end() == end
            };
            // A tenth of a second: a publisher that only waits for its turn goes on sooner.
            if !(0..20).all(is_still) {
                continue;
            }
            for _ in 0..OPTIONS.log_entries / 2 {
                frames.clear();
                match hub.next(|_| true, &mut frames) {
                    Next::Lagged(missed) => panic!("{path}: {missed} messages were missed"),
                    Next::Empty => break,
                    Next::Record(_) | Next::Skipped => {}
                }
            }
            other.keep_pace(hub.offset());
        }
        flood.join().expect("all of it was taken in");
    }
}

#[test]
fn a_hub_that_has_stopped_holds_the_others_for_a_moment_only() {
    let bus = TestBus::with(&OPTIONS);
    let worker = worker_on(&bus);
    let stopped = Bus::open(bus.name(), &OPTIONS).expect("the same bus");
    stopped.keep_pace(stopped.end());
    let mut listener = Client::open(worker.address, "/relay/all");
    let flood = flood(&worker, "/relay/all");
    for number in 0..FLOOD {
        assert_eq!(listener.message(), "hi", "at {number}");
    }
    flood.join().expect("all of it was taken in");
    drop(stopped);
}
