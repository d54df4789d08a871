//! The tests of records that go from process to process.

use std::collections::HashMap;
use std::fs;
use std::thread;

use fanbus::ipc::{
    Bus, BusOptions, Draft, Next, Parker, PublishError, ReadAt, Subscriber, topic_hash,
};
use nix::poll::{PollFd, PollFlags, poll};

use super::process::{Actor, Name, PATIENCE, until};
use super::roles::{EACH, TOPIC, draft, hash, small};

/// The records of a reader: by offset, the producer and the number.
type Got = HashMap<u64, (u64, u64, u64)>;

struct Report {
    received: u64,
    lagged: u64,
    got: Got,
}

fn report(reader: &mut Actor) -> Report {
    let line = reader.hear_after("result");
    let mut words = line.splitn(3, ' ');
    let mut number = || {
        words
            .next()
            .expect("three words")
            .parse()
            .expect("a number")
    };
    let (received, lagged) = (number(), number());
    let path = words.next().expect("three words");
    let bytes = fs::read(path).expect("it has just been written");
    fs::remove_file(path).expect("it is ours");
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    let got = bytes.chunks_exact(32).map(|record| {
        let [offset, slot, incarnation, number] =
            [0, 8, 16, 24].map(|at| word(&record[at..at + 8]));
        (offset, (slot, incarnation, number))
    });
    Report {
        received,
        lagged,
        got: got.collect(),
    }
}

/// Checks that all numbers of each incarnation are there from 0 on, in the order of the bus.
fn assert_gapless(got: &Got) {
    let mut offsets: Vec<_> = got.keys().copied().collect();
    offsets.sort_unstable();
    let mut next = HashMap::new();
    for offset in offsets {
        let (slot, incarnation, number) = got[&offset];
        let expected: &mut u64 = next.entry((slot, incarnation)).or_default();
        assert_eq!(
            number, *expected,
            "of member {slot}/{incarnation} at offset {offset}"
        );
        *expected += 1;
    }
}

#[test]
fn four_publishers_and_four_readers_see_everything_once_in_one_order() {
    let name = Name::new("traffic");
    let bus = Bus::open(&name.0, &BusOptions::default()).expect("it opens");
    let mut readers = [0; 4].map(|_| Actor::start("reader", &name));
    let starts = readers.each_mut().map(|reader| reader.hear_after("ready"));
    assert_eq!(starts, ["0"; 4]);
    let mut publishers = [0; 4].map(|_| Actor::start("publisher", &name));
    for publisher in &mut publishers {
        publisher.hear_after("ready");
    }
    for publisher in &mut publishers {
        publisher.say("go");
    }
    for publisher in &mut publishers {
        publisher.hear_after("done");
    }
    assert_eq!(bus.end(), 4 * EACH);
    bus.publish(&draft(b"end")).expect("a sound bus");

    let reports = readers.each_mut().map(report);
    for report in &reports {
        assert_eq!((report.received, report.lagged), (4 * EACH, 0));
        assert_eq!(
            report.got, reports[0].got,
            "two readers saw different orders"
        );
    }
    assert_gapless(&reports[0].got);
}

#[test]
fn killed_publishers_stop_no_reader_and_all_readers_agree() {
    const KILLS: usize = 60;
    let name = Name::new("kills");
    let bus = Bus::open(&name.0, &BusOptions::default()).expect("it opens");
    let mut readers = [0; 2].map(|_| Actor::start("reader", &name));
    for reader in &mut readers {
        reader.hear_after("ready");
    }
    let mut steady = Actor::start("victim", &name); // the one that is not killed
    let steady_slot = steady.hear_after("ready");

    let mut lives = Vec::new();
    for _ in 0..KILLS {
        let mut victim = Actor::start("victim", &name);
        let slot: u8 = victim.hear_after("ready").parse().expect("a slot");
        assert_ne!(slot.to_string(), steady_slot);
        let before = bus.end();
        until("both publish", || bus.end() > before + 20);
        victim.kill();
        let mut dead = Vec::new();
        until("its death is noticed", || {
            dead = bus.reap_members();
            !dead.is_empty()
        });
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].slot, slot);
        lives.push(dead[0].incarnation);
        let before = bus.end();
        until("the other goes on", || bus.end() > before);
    }
    assert!(
        lives.is_sorted_by(|a, b| a < b),
        "the same slot, life after life: {lives:?}"
    );
    steady.kill();
    bus.publish(&draft(b"end")).expect("a sound bus");

    let reports = readers.each_mut().map(report);
    let mut agreed = 0;
    for (offset, record) in &reports[0].got {
        if let Some(other) = reports[1].got.get(offset) {
            assert_eq!(
                record, other,
                "two readers saw different records at {offset}"
            );
            agreed += 1;
        }
    }
    assert!(
        agreed > 20 * KILLS,
        "{agreed} records are too few to say anything"
    );
    for report in reports.iter().filter(|report| report.lagged == 0) {
        assert_gapless(&report.got);
    }
}

#[test]
fn a_lapped_reader_in_another_process_gets_the_exact_number_of_missed_records() {
    let name = Name::new("lapped");
    let bus = Bus::open(&name.0, &small()).expect("it opens");
    let mut reader = Actor::start("slow reader", &name);
    assert_eq!(reader.hear_after("ready"), "0");
    let sent = 20_000;
    for number in 0_u64..sent {
        bus.publish(&draft(&number.to_le_bytes()))
            .expect("a sound bus");
    }
    reader.say("go");
    let line = reader.hear_after("result");
    let numbers: Vec<u64> = line
        .split(' ')
        .map(|word| word.parse().expect("a number"))
        .collect();
    let [gaps, lagged, received, _] = numbers[..] else {
        panic!("{line}")
    };
    assert_eq!(gaps, 1, "one gap is told once");
    assert_eq!(lagged + received, sent);
    // 64 KiB hold 512 records of two lines each, less than half of the log.
    assert_eq!(received, 512);
}

#[test]
fn a_sleeping_reader_in_another_process_is_woken_every_time() {
    let name = Name::new("sleeper");
    let bus = Bus::open(&name.0, &small()).expect("it opens");
    let answer = topic_hash(b"answer");
    bus.add_interest(answer);
    let mut sleeper = Actor::start("sleeper", &name);
    sleeper.hear_after("ready");
    let mut subscriber = bus.subscriber();
    let mut frames = Vec::new();
    for round in 0..2000 {
        bus.publish(&draft(b"ping")).expect("a sound bus");
        loop {
            frames.clear();
            match subscriber.next(|hash| hash == answer, &mut frames) {
                Next::Record(_) => break,
                Next::Empty => assert!(subscriber.wait(PATIENCE), "no answer to {round}"),
                Next::Skipped => {}
                Next::Lagged(_) => panic!("no publisher was that fast"),
            }
        }
    }
    bus.publish(&draft(b"end")).expect("a sound bus");
    assert!(sleeper.wait().success());
}

fn is_readable(bus: &Bus) -> bool {
    let mut fds = [PollFd::new(bus.parker().fd(), PollFlags::POLLIN)];
    poll(&mut fds, 0_u8).expect("poll on one descriptor") == 1
}

#[test]
fn only_sleepers_with_interest_get_a_wakeup() {
    let name = Name::new("interest");
    let publisher = Bus::open(&name.0, &small()).expect("it opens");
    let reader = Bus::open(&name.0, &small()).expect("it opens");
    publisher
        .publish(&draft(b"offset 0 rings everybody"))
        .expect("a sound bus");

    reader.add_interest(hash());
    reader.add_interest(hash());
    publisher.publish(&draft(b"it runs")).expect("a sound bus");
    assert!(!is_readable(&reader), "a running reader was rung");

    assert!(!reader.parker().park(0), "there is something to read");
    assert!(reader.parker().park(reader.end()));
    let other = Draft {
        topic: "other",
        topic_hash: topic_hash(b"other"),
        ..draft(b"")
    };
    publisher.publish(&other).expect("a sound bus");
    assert!(!is_readable(&reader), "it has no interest in this topic");
    publisher
        .publish(&draft(b"it sleeps"))
        .expect("a sound bus");
    assert!(is_readable(&reader));
    reader.parker().unpark();
    reader.parker().clear();

    reader.remove_interest(hash());
    assert!(reader.parker().park(reader.end()));
    publisher
        .publish(&draft(b"one interest is left"))
        .expect("a sound bus");
    assert!(is_readable(&reader));
    reader.parker().unpark();
    reader.parker().clear();

    reader.remove_interest(hash());
    reader.remove_interest(hash());
    assert!(reader.parker().park(reader.end()));
    publisher
        .publish(&draft(b"none is left"))
        .expect("a sound bus");
    assert!(!is_readable(&reader));

    // Every quarter of a log members without interest are woken too, so that they are not lapped without noticing.
    until("a quarter of a log", || {
        publisher
            .publish(&other)
            .expect("a sound bus")
            .is_multiple_of(1024)
    });
    assert!(is_readable(&reader));
}

#[test]
fn threads_of_one_process_wake_each_other_and_wait_side_by_side() {
    let name = Name::new("threads");
    let bus = Bus::open(&name.0, &small()).expect("it opens");
    bus.add_interest(hash());
    let count = 500_u64;
    thread::scope(|scope| {
        for _ in 0..3 {
            let mut subscriber = bus.subscriber();
            scope.spawn(move || {
                let mut frames = Vec::new();
                for number in 0..count {
                    frames.clear();
                    let head = loop {
                        match subscriber.next(|_| true, &mut frames) {
                            Next::Record(head) => break head,
                            Next::Empty => assert!(subscriber.wait(PATIENCE), "at {number}"),
                            other => panic!("{other:?}"),
                        }
                    };
                    assert_eq!(head.offset, number);
                }
            });
        }
        let publishing: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for number in 0..count / 2 {
                        bus.publish(&draft(&number.to_le_bytes()))
                            .expect("a sound bus");
                        thread::yield_now();
                    }
                })
            })
            .collect();
        for thread in publishing {
            thread.join().expect("no panic");
        }
    });
    assert_eq!(bus.end(), count);
}

#[test]
fn a_bus_can_be_used_from_any_thread() {
    fn shared<T: Send + Sync>() {}
    fn movable<T: Send>() {}
    shared::<Bus>();
    shared::<Parker>();
    movable::<Subscriber>();
}

#[test]
fn a_burst_of_messages_of_one_mebibyte_arrives_whole() {
    let name = Name::new("burst");
    let bus = Bus::open(&name.0, &BusOptions::default()).expect("it opens");
    let other = Bus::open(&name.0, &BusOptions::default()).expect("it opens");
    let mut subscriber = other.subscriber();
    let payload = |number: u8| {
        (0..1 << 20)
            .map(|i| (i >> 3) as u8 ^ number)
            .collect::<Vec<_>>()
    };
    for number in 0..7 {
        bus.publish(&draft(&payload(number))).expect("it fits");
    }
    for number in 0..7 {
        let mut frames = Vec::new();
        let Next::Record(head) = subscriber.next(|_| true, &mut frames) else {
            panic!()
        };
        assert_eq!(frames[head.frame][5..], payload(number));
    }
    assert_eq!(subscriber.next(|_| true, &mut Vec::new()), Next::Empty);
}

#[test]
fn invalid_messages_are_refused_with_an_error() {
    let name = Name::new("refused");
    let bus = Bus::open(&name.0, &small()).expect("it opens");
    let limit = bus.max_message_bytes();
    assert_eq!(limit, 16 << 10);
    let exact = Draft {
        frame: [&[0; 10], &vec![0; limit]],
        ..draft(b"")
    };
    assert_eq!(
        bus.publish(&exact),
        Ok(0),
        "a frame header comes on top of the limit"
    );
    let larger = vec![0; limit + 100];
    let error = bus.publish(&draft(&larger)).expect_err("too large");
    assert_eq!(
        error,
        PublishError::TooLarge {
            bytes: limit + 105,
            limit
        }
    );
    assert!(
        error
            .to_string()
            .contains("larger than the 16384 bytes that this bus carries"),
        "{error}"
    );
    for topic in ["", "a\nb", &"x".repeat(256)] {
        let bad = Draft {
            topic,
            topic_hash: topic_hash(topic.as_bytes()),
            ..draft(b"")
        };
        assert_eq!(bus.publish(&bad), Err(PublishError::BadTopic));
    }
    assert_eq!(bus.end(), 1, "nothing of it is on the bus");
}

#[test]
fn a_record_can_be_read_again_by_its_offset() {
    let name = Name::new("replay");
    let bus = Bus::open(&name.0, &small()).expect("it opens");
    for number in 0_u64..1000 {
        assert_eq!(bus.publish(&draft(&number.to_le_bytes())), Ok(number));
    }
    let (mut frame, mut topic) = (Vec::new(), String::new());
    assert_eq!(bus.read_at(0, &mut frame), ReadAt::Overwritten);
    assert_eq!(bus.read_at(1000, &mut frame), ReadAt::NotYet);
    assert_eq!(bus.read_at(u64::MAX, &mut frame), ReadAt::NotYet);
    assert!(frame.is_empty());
    let ReadAt::Record(head) = bus.read_at_with_topic(900, &mut frame, &mut topic) else {
        panic!("it is among the last 512")
    };
    assert_eq!(
        (head.offset, head.producer, topic.as_str()),
        (900, bus.member(), TOPIC)
    );
    assert_eq!(frame[5..], 900_u64.to_le_bytes());

    let mut subscriber = bus.subscriber_at(900);
    assert_eq!(subscriber.offset(), 900);
    let next = subscriber.next(|_| true, &mut Vec::new());
    assert!(matches!(next, Next::Record(head) if head.offset == 900));
    assert_eq!(
        bus.subscriber_at(u64::MAX).offset(),
        1000,
        "not into the future"
    );
}
