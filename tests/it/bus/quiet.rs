//! The tests of system calls, counted by strace: none while readers are busy, one for each sleeper with interest,
//! none for one without.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use fanbus::ipc::{Bus, BusOptions, Draft, Next, topic_hash};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::process::{Actor, Name, listen, say, until};
use super::roles::{TOPIC, draft, hash};

/// Messages of the test with busy readers.
const MANY: u64 = 100_000;
/// Messages that may be unread at a time: fewer than the log holds.
const WINDOW: u64 = 20_000;
/// Messages of the tests with sleeping readers.
const FEW: u64 = 10;
/// The reader's reply that it has read this far.
const DONE: &str = "done";

/// The offset of the mask of sleepers, as in docs/bus.md.
const PARKED: u64 = 256;

/// In the other process.
pub(super) fn play(role: &str, name: &str) {
    match role {
        "quiet publisher" => publisher(name),
        "quiet reader" => reader(name),
        "quiet ringer" => ringer(name),
        "quiet sleeper" => sleeper(name),
        _ => panic!("no such role: {role}"),
    }
}

fn open(name: &str) -> Bus {
    Bus::open(name, &BusOptions::default()).expect("the test made it possible")
}

fn answer(done: &[u8]) -> Draft<'_> {
    Draft {
        topic: DONE,
        topic_hash: topic_hash(DONE.as_bytes()),
        ..draft(done)
    }
}

/// Publishes many messages, at most a window ahead of the reader's replies.
fn publisher(name: &str) {
    let bus = open(name);
    let mut answers = bus.subscriber();
    let done = topic_hash(DONE.as_bytes());
    let mut frame = Vec::new();
    say("ready");
    listen();
    say("begin");
    let mut answered = 0;
    for number in 0..MANY {
        while number - answered >= WINDOW {
            frame.clear();
            if let Next::Record(head) = answers.next(|hash| hash == done, &mut frame) {
                answered = number_in(&frame[head.frame]);
            }
        }
        bus.publish(&draft(&number.to_le_bytes()))
            .expect("a sound bus");
    }
    say("end");
    listen();
}

/// Reads all messages without sleeping, and replies now and then.
fn reader(name: &str) {
    let bus = open(name);
    bus.add_interest(hash());
    let mut subscriber = bus.subscriber();
    // A warm-up, so that the rest allocates nothing.
    let mut frame = Vec::with_capacity(4096);
    let wanted = hash();
    say("ready");
    listen();
    say("begin");
    let mut next = 0;
    while next < MANY {
        frame.clear();
        match subscriber.next(|hash| hash == wanted, &mut frame) {
            Next::Record(head) => {
                assert_eq!(number_in(&frame[head.frame]), next);
                next += 1;
                if next % (WINDOW / 4) == 0 {
                    bus.publish(&answer(&next.to_le_bytes()))
                        .expect("a sound bus");
                }
            }
            Next::Empty | Next::Skipped => std::hint::spin_loop(),
            Next::Lagged(count) => panic!("{count} lost, with a window below the log"),
        }
    }
    say("end");
    listen();
}

fn number_in(frame: &[u8]) -> u64 {
    let number = frame.strip_prefix(b"head:").expect("the frame header");
    u64::from_le_bytes(number.try_into().expect("a number"))
}

/// Publishes one message for each line from the test.
fn ringer(name: &str) {
    let bus = open(name);
    say("ready");
    for number in 0..=FEW {
        listen();
        say("begin");
        bus.publish(&draft(&number.to_le_bytes()))
            .expect("a sound bus");
        say("end");
    }
    listen();
}

/// Sleeps until its pipe wakes it, and reads all records.
fn sleeper(name: &str) {
    let bus = open(name);
    let mut subscriber = bus.subscriber();
    say("ready");
    let topic = listen();
    bus.add_interest(topic_hash(topic.as_bytes()));
    say("interested");
    let mut frame = Vec::new();
    loop {
        frame.clear();
        match subscriber.next(|_| true, &mut frame) {
            Next::Record(_) => say("got"),
            Next::Skipped => {}
            Next::Lagged(_) => panic!("ten records cannot be too fast"),
            Next::Empty => {
                if bus.parker().park(subscriber.offset()) {
                    let mut fds = [PollFd::new(bus.parker().fd(), PollFlags::POLLIN)];
                    let _ = poll(&mut fds, PollTimeout::from(30_000_u16));
                    bus.parker().unpark();
                    bus.parker().clear();
                }
            }
        }
    }
}

/// Whether strace works here. Without it the tests below are skipped; with CI=true they fail.
fn may_trace() -> bool {
    let probe = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status();
    let works = probe.as_ref().is_ok_and(std::process::ExitStatus::success);
    if !works {
        let reason = match probe {
            Err(error) => format!("strace does not start ({error}): tests/install-debian strace"),
            Ok(_) => {
                "ptrace is refused here: allow it, for instance with --cap-add SYS_PTRACE".into()
            }
        };
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!is_ci, "With CI=true nothing is skipped: {reason}");
        eprintln!("skipped: {reason}");
    }
    works
}

/// A process whose system calls strace records.
struct Traced {
    actor: Actor,
    log: PathBuf,
}

impl Traced {
    fn start(role: &str, name: &Name) -> Traced {
        let log = format!("{}-{}", name.0, role.replace(' ', "-"));
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(log);
        let mut command = Command::new("strace");
        // Signals are not system calls. `-D` makes the traced process the child that is killed.
        command.args(["-f", "-D", "-e", "signal=none", "-s", "64", "-o"]);
        command
            .arg(&log)
            .arg(std::env::current_exe().expect("this test binary"));
        let mut actor = Actor::run(command, role, name);
        actor.hear_after("ready");
        Traced { actor, log }
    }

    /// After its end: its system calls between each "begin" and the following "end", one per line.
    fn acts(mut self) -> Vec<Vec<String>> {
        self.actor.say("");
        let log = self.log.clone();
        let pid = self.actor.pid().to_string();
        assert!(self.actor.wait().success());
        let is_last = |line: &str| line.starts_with(&pid) && line.contains("+++ exited");
        let whole = || fs::read_to_string(&log).is_ok_and(|text| text.lines().any(is_last));
        until("strace has written it down", whole);
        let text = fs::read_to_string(&log).expect("it was just there");
        fs::remove_file(&log).expect("ours");
        let mut acts = Vec::new();
        let mut open: Option<(&str, Vec<String>)> = None;
        for line in text.lines() {
            // "1234 write(1, ...": a process or thread, and its call.
            let (process, call) = line.split_once(' ').expect("a process and a call");
            let call = call.trim_start();
            let says = |word: &str| call.starts_with("write(1, ") && call.contains(word);
            match &mut open {
                None if says("@say begin") => open = Some((process, Vec::new())),
                Some((it, _)) if *it == process && says("@say end") => {
                    acts.extend(open.take().map(|(_, calls)| calls));
                }
                // Standard output goes to the test: "end" begins a line.
                Some((it, calls)) if *it == process && !call.starts_with("write(1, ") => {
                    calls.push(call.to_owned());
                }
                _ => {}
            }
        }
        assert!(open.is_none(), "a begin without an end:\n{text}");
        acts
    }
}

#[test]
fn a_busy_publisher_and_reader_make_no_system_calls() {
    if !may_trace() {
        return;
    }
    let name = Name::new("quiet");
    let mut reader = Traced::start("quiet reader", &name);
    let mut publisher = Traced::start("quiet publisher", &name);
    for traced in [&mut reader, &mut publisher] {
        traced.actor.say("go");
        traced.actor.hear_after("begin");
    }
    for (process, mut traced) in [("publisher", publisher), ("reader", reader)] {
        traced.actor.hear_after("end");
        let acts = traced.acts();
        let [calls] = &acts[..] else {
            panic!("{process}: {acts:?}")
        };
        // A few calls are allowed that no message causes: an allocation, a restarted call.
        assert!(
            calls.len() < 50,
            "{process}: {} system calls for {MANY} messages:\n{}",
            calls.len(),
            calls.join("\n")
        );
    }
}

/// The system calls of each publish but the first, beside these sleepers: one with interest in each of `topics`. The
/// first publish wakes all members (docs/bus.md), and opens their pipes.
fn calls_beside_sleepers(test: &str, topics: &[&str]) -> Vec<Vec<String>> {
    let name = Name::new(test);
    let mut sleepers: Vec<_> = topics
        .iter()
        .map(|topic| {
            let mut sleeper = Actor::start("quiet sleeper", &name);
            sleeper.hear_after("ready");
            sleeper.say(topic);
            sleeper.hear_after("interested");
            sleeper
        })
        .collect();
    let file = File::open(name.path()).expect("a segment");
    let all_sleep = || {
        let mut mask = [0; 8];
        file.read_exact_at(&mut mask, PARKED)
            .expect("the first page");
        u64::from_le_bytes(mask).count_ones() as usize == topics.len()
    };
    let mut ringer = Traced::start("quiet ringer", &name);
    for number in 0..=FEW {
        until("all sleep", all_sleep);
        ringer.actor.say("go");
        ringer.actor.hear_after("begin");
        ringer.actor.hear_after("end");
        // A woken reader runs before the test waits for it to sleep again.
        for (sleeper, topic) in sleepers.iter_mut().zip(topics) {
            if number == 0 || *topic == TOPIC {
                sleeper.hear_after("got");
            }
        }
    }
    let acts = ringer.acts();
    sleepers.iter_mut().for_each(Actor::kill);
    assert_eq!(acts.len() as u64, FEW + 1);
    acts.into_iter().skip(1).collect()
}

#[test]
fn each_interested_sleeper_costs_one_write_and_nothing_else() {
    if !may_trace() {
        return;
    }
    for calls in calls_beside_sleepers("ringing", &[TOPIC, TOPIC]) {
        let are_writes = calls.iter().all(|call| call.starts_with("write("));
        assert!(calls.len() == 2 && are_writes, "{calls:#?}");
    }
}

#[test]
fn a_sleeper_without_interest_costs_no_system_call() {
    if !may_trace() {
        return;
    }
    for calls in calls_beside_sleepers("not-ringing", &["something else"]) {
        assert!(calls.is_empty(), "{calls:#?}");
    }
}
