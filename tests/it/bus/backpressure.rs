//! The tests of publishers that wait for slow hubs.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use fanbus::ipc::{AbandonedHub, Bus, BusOptions, Draft, Next, Subscriber, topic_hash};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::{Actor, Name, listen, say, until};
use super::roles::{draft, hash};

const OPTIONS: BusOptions = BusOptions {
    ring_bytes: 1 << 20,
    log_entries: 1 << 12,
    history_bytes: 0,
};

fn open(name: &Name) -> Bus {
    Bus::open(&name.0, &OPTIONS).expect("a bus")
}

/// Publishes as user code does. Returns the hubs that were abandoned.
fn publish(bus: &Bus, message: &[u8]) -> Vec<AbandonedHub> {
    let published = bus.publish_blocking(&draft(message));
    published.expect("a sound bus").abandoned_hubs
}

/// Sets the flag when it is dropped, also by a test that fails: otherwise its threads would never end.
struct AtEnd<'f>(&'f AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Reads all records that are there, and fails if some were missed. Returns their number.
fn read_all(reader: &mut Subscriber, each: impl Fn(u64)) -> u64 {
    let (mut frames, mut records) = (Vec::new(), 0);
    loop {
        frames.clear();
        match reader.next(|_| true, &mut frames) {
            Next::Record(head) => {
                records += 1;
                each(head.offset + 1);
            }
            Next::Skipped => {}
            Next::Empty => return records,
            Next::Lagged(missed) => panic!("{missed} records were missed"),
        }
    }
}

/// Reads the remaining records of a hub that was overtaken.
fn catch_up(reader: &mut Subscriber, hub: &Bus) {
    let (mut frames, mut missed) = (Vec::new(), 0);
    loop {
        frames.clear();
        match reader.next(|_| true, &mut frames) {
            Next::Record(_) | Next::Skipped => {}
            Next::Lagged(more) => missed += more,
            Next::Empty => break,
        }
    }
    assert_ne!(missed, 0, "it was not overtaken");
    hub.keep_pace(reader.offset());
}

/// A hub that delivers slowly, on a thread of its own, until it has this many records.
fn hub(bus: Bus, count: u64) -> thread::JoinHandle<()> {
    let mut reader = bus.subscriber();
    bus.begin_pace(reader.offset());
    thread::spawn(move || {
        bus.begin_pace(reader.offset());
        let mut got = 0;
        while got < count {
            got += read_all(&mut reader, |next| {
                thread::sleep(Duration::from_micros(5));
                bus.keep_pace(next);
            });
        }
        bus.end_pace();
    })
}

#[test]
fn a_burst_of_messages_of_any_size_overtakes_no_hub() {
    // Sizes for which the log is the limit, some between, and the largest.
    for bytes in [0, 100, 1000, 10_000, 100_000, 256 << 10] {
        let name = Name::new("patient-burst");
        let count = (8 << 20) / bytes.max(200) as u64;
        let hubs: Vec<_> = (0..3).map(|_| hub(open(&name), count)).collect();
        let bus = open(&name);
        let message = vec![7; bytes];
        for _ in 0..count {
            assert_eq!(publish(&bus, &message), [], "{bytes} bytes");
        }
        for hub in hubs {
            hub.join().expect("it has missed nothing");
        }
    }
}

#[test]
fn publishers_in_threads_and_processes_together_overtake_no_hub() {
    const EACH: usize = 20;
    let name = Name::new("patient-together");
    let publishers = [open(&name), open(&name)];
    let hub = hub(open(&name), (2 * 16 * EACH) as u64);
    thread::scope(|scope| {
        for bus in &publishers {
            for _ in 0..16 {
                scope.spawn(|| {
                    let message = vec![7; 256 << 10]; // a quarter of the ring
                    for _ in 0..EACH {
                        assert_eq!(publish(bus, &message), []);
                    }
                });
            }
        }
    });
    hub.join().expect("it has missed nothing");
}

/// Sleeps as a hub does: unwanted records do not wake it.
fn sleeping_hub(bus: &Bus, topics: &[&str], is_over: &AtomicBool) {
    let mut reader = bus.subscriber();
    for topic in topics {
        bus.add_interest(topic_hash(topic.as_bytes()));
    }
    bus.begin_pace(reader.offset());
    let parker = bus.parker();
    while !is_over.load(SeqCst) {
        read_all(&mut reader, |next| bus.keep_pace(next));
        bus.keep_pace(reader.offset());
        if parker.park(reader.offset()) {
            let mut fds = [PollFd::new(parker.fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            parker.unpark();
            parker.clear();
        }
    }
    bus.end_pace();
}

#[test]
fn a_sleeping_hub_is_woken_for_unwanted_records_before_it_is_overtaken() {
    let name = Name::new("patient-sleep");
    let (bus, reading) = (open(&name), open(&name));
    reading.begin_pace(reading.end()); // before anything is published, and before its thread runs
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let hub = scope.spawn(|| sleeping_hub(&reading, &["another topic"], &is_over));
        let message = vec![7; 256 << 10];
        for _ in 0..100 {
            assert_eq!(publish(&bus, &message), []);
        }
        is_over.store(true, SeqCst);
        reading.wake_threads();
        hub.join().expect("it has missed nothing");
    });
}

#[test]
fn a_publisher_does_not_wait_without_a_hub_or_after_the_hub_has_ended() {
    let name = Name::new("patient-alone");
    let (bus, other) = (open(&name), open(&name));
    let _slow = other.subscriber();
    other.begin_pace(0);
    other.end_pace();
    let message = vec![7; 100_000];
    for _ in 0..100 {
        let offset = bus.try_publish(&draft(&message)).expect("a sound bus");
        assert!(offset.is_some(), "there is no hub to wait for");
    }
}

#[test]
fn a_hub_without_progress_is_abandoned_by_all_publishers_until_it_makes_some() {
    let name = Name::new("patient-still");
    let (first, second, hub) = (open(&name), open(&name), open(&name));
    let mut reader = hub.subscriber();
    hub.keep_pace(reader.offset());
    let message = vec![7; 100_000];
    let named: Vec<_> = (0..30).flat_map(|_| publish(&first, &message)).collect();
    let left = AbandonedHub {
        pid: u64::from(std::process::id()),
        made_no_progress: true,
    };
    assert_eq!(named, [left], "it is named once");
    assert!(hub.was_abandoned(), "and can know");
    // Another publisher does not wait again.
    for _ in 0..30 {
        let published = second.try_publish(&draft(&message));
        assert!(published.expect("a sound bus").is_some());
    }
    // It continues, far behind: publishers wait for it.
    hub.beat();
    let filled = (0..30).find(|_| {
        let published = first.try_publish(&draft(&message));
        published.expect("a sound bus").is_none()
    });
    assert!(filled.is_some(), "no publisher waits for it");
    catch_up(&mut reader, &hub);
    hub.report_caught_up();
    assert!(!hub.was_abandoned());
    assert_eq!(publish(&first, &message), []);
}

#[test]
fn a_hub_with_too_little_progress_is_abandoned_until_it_has_caught_up() {
    let name = Name::new("patient-limp");
    let (bus, hub) = (open(&name), open(&name));
    let mut reader = hub.subscriber();
    let start = reader.offset();
    hub.keep_pace(start);
    let is_over = AtomicBool::new(false);
    let message = vec![7; 100_000];
    thread::scope(|scope| {
        let _at_end = AtEnd(&is_over);
        scope.spawn(|| {
            hub.begin_pace(start); // on a busy machine this thread may only lack a processor
            while !is_over.load(SeqCst) {
                hub.beat();
                thread::sleep(Duration::from_millis(5));
            }
        });
        let named: Vec<_> = (0..30).flat_map(|_| publish(&bus, &message)).collect();
        is_over.store(true, SeqCst);
        let left = AbandonedHub {
            pid: u64::from(std::process::id()),
            made_no_progress: false,
        };
        assert_eq!(named, [left]);
    });
    hub.beat(); // it makes progress, and that is not enough
    for _ in 0..30 {
        let published = bus.try_publish(&draft(&message));
        assert!(published.expect("a sound bus").is_some());
    }
    catch_up(&mut reader, &hub);
    let waited_for = (0..30).any(|_| {
        let published = bus.try_publish(&draft(&message));
        published.expect("a sound bus").is_none()
    });
    assert!(waited_for, "it had caught up");
}

/// In another process: a hub that reads all records.
pub(super) fn play(bus: &str) {
    let bus = Bus::attach(bus).expect("the test made it");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            listen();
            is_over.store(true, SeqCst);
            bus.wake_threads();
        });
        bus.add_interest(hash());
        bus.begin_pace(bus.end());
        say("ready");
        sleeping_hub(&bus, &[super::roles::TOPIC], &is_over);
    });
    say("missed nothing");
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).expect("it is our child");
}

#[test]
fn a_hub_stopped_for_a_moment_misses_nothing_and_a_killed_one_delays_no_publisher() {
    let name = Name::new("patient-stopped");
    let bus = open(&name);
    let message = vec![7; 10_000];
    let mut hub = Actor::start("hub", &name);
    assert_eq!(hub.hear(), "ready");
    let (is_over, pid) = (AtomicBool::new(false), hub.pid());
    thread::scope(|scope| {
        scope.spawn(|| {
            // Stopped again and again, and never as long as publishers wait for a hub.
            while !is_over.load(SeqCst) {
                signal(pid, Signal::SIGSTOP);
                thread::yield_now();
                signal(pid, Signal::SIGCONT);
                thread::sleep(Duration::from_micros(100));
            }
        });
        let named: Vec<_> = (0..4000).flat_map(|_| publish(&bus, &message)).collect();
        is_over.store(true, SeqCst);
        assert_eq!(named, []);
    });
    hub.say("end");
    assert_eq!(hub.hear(), "missed nothing");

    let mut hub = Actor::start("hub", &name);
    assert_eq!(hub.hear(), "ready");
    hub.kill();
    // A dead hub is not reported: the process that reaps it does that.
    (0..1000).for_each(|_| assert_eq!(publish(&bus, &message), []));
    until("it is reaped", || bus.reap() == 0);
}

#[test]
fn a_publisher_killed_while_it_waits_leaves_no_state() {
    let name = Name::new("patient-killed");
    let hub = open(&name);
    let mut reader = hub.subscriber();
    let start = reader.offset();
    hub.keep_pace(start);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _at_end = AtEnd(&is_over);
        scope.spawn(|| {
            hub.begin_pace(start);
            while !is_over.load(SeqCst) {
                hub.beat(); // otherwise publishers would wait no longer than 100 ms for it
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut publisher = Actor::start("patient publisher", &name);
        assert_eq!(publisher.hear(), "ready");
        until("it waits", || hub.end() > start + 2);
        publisher.kill();
    });
    assert_eq!(hub.reap(), 1);
    let count = hub.end() - start;
    let read = read_all(&mut reader, |next| hub.keep_pace(next));
    assert!(read >= count, "{read} of {count}");
    let draft = Draft {
        exclude_session: 7,
        ..draft(b"on it goes")
    };
    assert!(hub.try_publish(&draft).expect("a sound bus").is_some());
}

/// In another process: publishes until it is killed.
pub(super) fn play_publisher(bus: &str) {
    let bus = Bus::attach(bus).expect("the test made it");
    say("ready");
    let message = vec![7; 100_000];
    loop {
        let published = bus.publish_blocking(&draft(&message));
        published.expect("a sound bus");
    }
}
