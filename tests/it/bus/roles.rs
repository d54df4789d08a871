//! The roles of the other processes.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanbus::ipc::{
    Bus, BusError, BusOptions, Draft, Next, PublishError, ReadAt, ServerNeeds, topic_hash,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{ForkResult, fork};

use super::process::{Name, PATIENCE, listen, say};
use super::{backpressure, quiet, stepped, torture};

pub(super) const TOPIC: &str = "room:lobby";
/// The payload of a publisher: its number, to tell it from others.
pub(super) const EACH: u64 = 5_000;

pub(super) fn hash() -> u64 {
    topic_hash(TOPIC.as_bytes())
}

pub(super) fn draft(payload: &[u8]) -> Draft<'_> {
    Draft {
        topic: TOPIC,
        topic_hash: hash(),
        flags: 1,
        exclude_session: 0,
        frame: [b"head:", payload],
    }
}

/// Small, so that fifty processes cost little.
pub(super) fn small() -> BusOptions {
    BusOptions {
        ring_bytes: 64 << 10,
        log_entries: 1 << 12,
        ..BusOptions::default()
    }
}

pub(super) fn open(name: &Name) -> Bus {
    Bus::open(&name.0, &small()).expect("it opens")
}

/// The error of an attempt to open the bus.
pub(super) fn sentence(name: &Name) -> String {
    Bus::open(&name.0, &small())
        .expect_err("it does not open")
        .to_string()
}

pub(super) fn play(role: &str, bus: &str) {
    match role {
        "publisher" => publisher(bus),
        "reader" => reader(bus),
        "victim" => victim(bus),
        "opener" => opener(bus),
        "holder" => holder(bus),
        "server" => server(bus),
        "sleeper" => sleeper(bus),
        "slow reader" => slow_reader(bus),
        "parent" => parent(bus),
        "cramped" => cramped(bus),
        "torturer" => torture::producer(bus),
        "witness" => torture::reader(bus),
        "stepped publish" | "stepped read" | "stepped park" | "stepped keep" => {
            stepped::play(role, bus);
        }
        "quiet publisher" | "quiet reader" | "quiet ringer" | "quiet sleeper" => {
            quiet::play(role, bus);
        }
        "hub" => backpressure::play(bus),
        "patient publisher" => backpressure::play_publisher(bus),
        _ => panic!("no such role: {role}"),
    }
}

fn open_large(bus: &str) -> Bus {
    Bus::open(bus, &BusOptions::default()).expect("the test made it possible")
}

/// Publishes `EACH` numbered records.
fn publisher(name: &str) {
    let bus = open_large(name);
    say("ready");
    listen();
    for number in 0..EACH {
        bus.publish(&draft(&number.to_le_bytes()))
            .expect("a sound bus");
    }
    say("done");
    listen();
}

/// Publishes numbered records until it is killed, not faster than a reader on a busy machine reads.
fn victim(name: &str) {
    let bus = open_large(name);
    say(&format!("ready {}", bus.member().slot));
    for number in 0_u64.. {
        bus.publish(&draft(&number.to_le_bytes()))
            .expect("a sound bus");
        let pause = Instant::now() + Duration::from_micros(20);
        while Instant::now() < pause {
            std::hint::spin_loop();
        }
    }
}

/// Reads to the end, and writes the result into a file: offset, slot, incarnation, number.
fn reader(name: &str) {
    let bus = open_large(name);
    bus.add_interest(hash());
    let mut subscriber = bus.subscriber();
    let start = subscriber.offset();
    say(&format!("ready {start}"));
    // In the build's own folder for such files, where a failed test may leave one.
    let path = format!(
        "{}/{name}-{}",
        env!("CARGO_TARGET_TMPDIR"),
        std::process::id()
    );
    let mut file = BufWriter::new(File::create(&path).expect("space for the result"));
    let (mut received, mut lagged) = (0_u64, 0_u64);
    let mut frames = Vec::new();
    loop {
        frames.clear();
        match subscriber.next(|_| true, &mut frames) {
            Next::Record(head) => {
                assert_eq!(subscriber.topic(), TOPIC);
                let payload = frames[head.frame]
                    .strip_prefix(b"head:")
                    .expect("the frame header");
                if payload == b"end" {
                    break;
                }
                let number = u64::from_le_bytes(payload.try_into().expect("a number"));
                let producer = head.producer;
                let line = [
                    head.offset,
                    u64::from(producer.slot),
                    u64::from(producer.incarnation),
                    number,
                ];
                for word in line {
                    file.write_all(&word.to_le_bytes())
                        .expect("space for the result");
                }
                received += 1;
            }
            Next::Lagged(count) => lagged += count,
            Next::Skipped => {}
            Next::Empty => drop(subscriber.wait(PATIENCE)),
        }
    }
    file.flush().expect("space for the result");
    let read = subscriber.offset() - 1 - start;
    assert_eq!(
        received + lagged,
        read,
        "received and missed are all there was"
    );
    say(&format!("result {received} {lagged} {path}"));
    listen();
}

/// Opens at the given time, in microseconds since 1970, and reports the result.
fn opener(name: &str) {
    say("ready");
    let start = UNIX_EPOCH + Duration::from_micros(listen().parse().expect("a time"));
    while SystemTime::now() < start {
        std::hint::spin_loop();
    }
    let bus = Bus::open(name, &small()).expect("it opens");
    let member = bus.member();
    say(&format!(
        "open {} {} {}",
        bus.epoch(),
        member.slot,
        member.incarnation
    ));
    listen();
    let offset = bus.publish(&draft(b"here")).expect("a sound bus");
    say(&format!("published {offset}"));
    listen();
}

/// Publishes ten records, and lives on.
fn holder(name: &str) {
    let bus = Bus::open(name, &small()).expect("it opens");
    bus.add_interest(hash());
    for number in 0_u64..10 {
        bus.publish(&draft(&number.to_le_bytes()))
            .expect("a sound bus");
    }
    // It dies asleep, with interest.
    assert!(bus.parker().park(bus.end()));
    let member = bus.member();
    say(&format!(
        "ready {} {} {}",
        bus.epoch(),
        member.slot,
        member.incarnation
    ));
    listen();
}

/// Replies to each record, and sleeps in between until its pipe wakes it.
fn sleeper(name: &str) {
    let bus = Bus::open(name, &small()).expect("it opens");
    bus.add_interest(hash());
    let mut subscriber = bus.subscriber();
    let answer = topic_hash(b"answer");
    say("ready");
    let parker = bus.parker();
    let mut frames = Vec::new();
    loop {
        frames.clear();
        match subscriber.next(|hash| hash != answer, &mut frames) {
            Next::Record(head) if frames[head.frame.clone()] == *b"head:end" => return,
            Next::Record(_) => {
                let draft = Draft {
                    topic: "answer",
                    topic_hash: answer,
                    ..draft(&frames)
                };
                bus.publish(&draft).expect("a sound bus");
            }
            Next::Empty => {
                if parker.park(subscriber.offset()) {
                    let mut fds = [PollFd::new(parker.fd(), PollFlags::POLLIN)];
                    let ready = poll(&mut fds, PollTimeout::from(30_000_u16));
                    assert_eq!(ready, Ok(1), "no wake-up came");
                    parker.unpark();
                    parker.clear();
                }
            }
            Next::Skipped => {}
            Next::Lagged(_) => panic!("one record at a time cannot be too fast"),
        }
    }
}

/// Reads only when the test asks for it.
fn slow_reader(name: &str) {
    let bus = Bus::open(name, &small()).expect("it opens");
    let mut subscriber = bus.subscriber();
    say(&format!("ready {}", subscriber.offset()));
    listen();
    let mut frames = Vec::new();
    let (mut gaps, mut lagged, mut received, mut hasher) = (0, 0, 0, DefaultHasher::new());
    loop {
        frames.clear();
        match subscriber.next(|_| true, &mut frames) {
            Next::Record(head) => {
                received += 1;
                (head.offset, &frames).hash(&mut hasher);
            }
            Next::Lagged(count) => {
                gaps += 1;
                lagged += count;
            }
            Next::Skipped => {}
            Next::Empty => break,
        }
    }
    say(&format!(
        "result {gaps} {lagged} {received} {}",
        hasher.finish()
    ));
    listen();
}

/// Opens, forks, and lets the child try everything. The child lives on when the parent is killed.
#[allow(unsafe_code)] // Forking is the subject of this role.
fn parent(name: &str) {
    let bus = Bus::open(name, &small()).expect("it opens");
    bus.add_interest(hash());
    let mut subscriber = bus.subscriber();
    bus.publish(&draft(b"before")).expect("a sound bus");
    let held = bus.clone();
    // SAFETY: this process has two threads at most, and the child calls nothing that a lock of the other thread could
    // block but the allocator, which glibc makes safe to use after a fork.
    match unsafe { fork() }.expect("a process more") {
        ForkResult::Child => {
            assert!(bus.is_forked());
            assert_eq!(bus.publish(&draft(b"child")), Err(PublishError::Forked));
            assert!(matches!(bus.remove(), Err(BusError::Forked)));
            assert_eq!(bus.reap(), 0);
            bus.add_interest(7);
            bus.remove_interest(hash());
            assert!(bus.parker().park(bus.end()));
            bus.parker().unpark();
            bus.parker().clear();
            // Reading works.
            let next = subscriber.next(|_| true, &mut Vec::new());
            assert!(matches!(next, Next::Record(_)));
            assert!(
                !subscriber.wait(PATIENCE),
                "it cannot be woken, so it does not wait"
            );
            drop((subscriber, bus));
            // It can open the bus itself.
            let own = Bus::open(name, &small()).expect("it opens");
            assert_ne!(own.member().slot, held.member().slot);
            own.publish(&draft(b"own")).expect("a sound bus");
            drop(own);
            say("child is done");
            // Lives on, with its copy, until the pipe from the test is closed.
            while !listen().is_empty() {}
        }
        ForkResult::Parent { .. } => {
            drop(subscriber);
            say(&format!(
                "parent is {} {}",
                bus.member().slot,
                bus.member().incarnation
            ));
            loop {
                std::thread::park();
            }
        }
    }
}

/// A server of one process that has started no other yet.
fn server(name: &str) {
    let server = ServerNeeds {
        workers: 1,
        extra_workers: 2,
        is_supervised: true,
        joined: 0,
        retains_history: false,
        ring_bytes: Some(small().ring_bytes),
        history_bytes: None,
    };
    let _bus = Bus::serve(name, &server).expect("memory in /dev/shm");
    say("ready");
    listen();
}

/// Opens in a /dev/shm of its own that is too small.
fn cramped(name: &str) {
    let error = Bus::open(name, &BusOptions::default()).expect_err("8 MiB do not fit in 3");
    say(&error.to_string());
    let left = std::fs::read_dir("/dev/shm").expect("a folder").count();
    say(&format!("left {left}"));
    let bus = Bus::open(name, &small()).expect("a smaller one fits");
    // Other files fill the rest: the bus has the memory that it begins with already.
    let filler = File::create("/dev/shm/filler").expect("a file");
    let mut filler = BufWriter::new(filler);
    while filler
        .write_all(&[1; 4096])
        .and_then(|()| filler.flush())
        .is_ok()
    {}
    for number in 0_u64..100_000 {
        bus.publish(&draft(&number.to_le_bytes()))
            .expect("a sound bus");
    }
    let mut frame = Vec::new();
    let newest = bus.read_at(99_999, &mut frame);
    assert!(matches!(newest, ReadAt::Record(_)), "{newest:?}");
    let largest = vec![7; bus.max_message_bytes()];
    bus.publish(&draft(&largest)).expect("a sound bus");
    let second = Bus::open(name, &small()).expect_err("no memory for another ring");
    say(&second.to_string());
    say(&format!("end {}", bus.end()));
    drop(filler);
    std::fs::remove_file("/dev/shm/filler").expect("it is ours");
    for _ in 0..2 * bus.ring_bytes() / 1000 {
        bus.publish(&draft(&[7; 1000])).expect("a sound bus");
    }
    let oldest = bus.end() - 50;
    let newest = bus.read_at(oldest, &mut frame);
    assert!(matches!(newest, ReadAt::Record(_)), "the ring is whole");
    say("whole");
}
