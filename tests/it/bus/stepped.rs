//! A process that ptrace leads through one act on the bus, instruction by instruction.
//!
//! The act lies between two signals that the process sends to itself, and that only its tracer sees. A system call
//! counts as one instruction.

use std::time::Duration;

use fanbus::ipc::{Bus, BusOptions, Member, Next};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, gettid};

use super::process::{Actor, Name, listen, say};
use super::roles::{draft, hash};

/// Ends and begins the act.
const SIGNAL: Signal = Signal::SIGUSR1;

/// Small, so that three laps are few records.
pub(super) fn tiny() -> BusOptions {
    BusOptions {
        ring_bytes: 4096,
        log_entries: 64,
        history_bytes: 0,
    }
}

/// Records of 20 bytes that an archiving publisher publishes before its act: 128 bytes each in its ring.
pub(super) const LAP_OF_KEEP: u8 = 40;

/// The action between the two signals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Act {
    Publish,
    Read,
    Park,
    /// A publish that overwrites so much that several records have to be archived before.
    Keep,
}

impl Act {
    fn role(self) -> &'static str {
        match self {
            Act::Publish => "stepped publish",
            Act::Read => "stepped read",
            Act::Park => "stepped park",
            Act::Keep => "stepped keep",
        }
    }
}

/// In the other process.
pub(super) fn play(role: &str, name: &str) {
    let bus = Bus::open(name, &tiny()).expect("it opens");
    let mut subscriber = bus.subscriber();
    let Member { slot, incarnation } = bus.member();
    if role == Act::Read.role() || role == Act::Park.role() {
        bus.add_interest(hash());
    }
    if role == Act::Read.role() {
        bus.publish(&draft(&[7; 500])).expect("a sound bus");
    }
    if role == Act::Keep.role() {
        // Once through its ring, so that it has records of its own to overwrite.
        for number in 0..LAP_OF_KEEP {
            bus.publish(&draft(&[number; 20])).expect("a sound bus");
        }
    }
    say(&format!("ready {} {slot} {incarnation}", gettid()));
    let payload = listen();
    let signal = || raise(SIGNAL).expect("it is traced");
    let mut frames = Vec::with_capacity(4096);
    match role {
        "stepped publish" | "stepped keep" => {
            let draft = draft(payload.as_bytes());
            signal();
            let published = bus.publish(&draft);
            signal();
            say(&format!("published {}", published.expect("a sound bus")));
        }
        "stepped read" => {
            signal();
            let next = subscriber.next(|_| true, &mut frames);
            signal();
            assert!(matches!(next, Next::Record(_)));
        }
        "stepped park" => {
            let parker = bus.parker();
            signal();
            assert!(parker.park(subscriber.offset()));
            let mut fds = [PollFd::new(parker.fd(), PollFlags::POLLIN)];
            let woken = poll(&mut fds, PollTimeout::ZERO);
            parker.unpark();
            parker.clear();
            signal();
            assert_eq!(woken, Ok(0));
        }
        _ => panic!("no such role: {role}"),
    }
    listen();
}

/// The traced process, at the beginning of its act. Only for the thread that started it.
pub(super) struct Stepped {
    actor: Actor,
    thread: Pid,
    pub(super) member: Member,
}

impl Stepped {
    pub(super) fn start(act: Act, name: &Name, payload: &str) -> Stepped {
        let mut actor = Actor::start(act.role(), name);
        let line = actor.hear_after("ready");
        let numbers: Vec<i32> = line
            .split(' ')
            .map(|word| word.parse().expect("a number"))
            .collect();
        let mut stepped = Stepped {
            actor,
            thread: Pid::from_raw(numbers[0]),
            member: Member {
                slot: numbers[1] as u8,
                incarnation: numbers[2] as u32,
            },
        };
        ptrace::attach(stepped.thread).expect("a child may be traced");
        assert_eq!(stepped.stop(), Signal::SIGSTOP);
        stepped.actor.say(payload);
        assert!(stepped.run(), "it came to its act");
        stepped
    }

    /// The reason for its stop.
    fn stop(&self) -> Signal {
        match waitpid(self.thread, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Stopped(_, signal)) => signal,
            other => panic!("it did not stop: {other:?}"),
        }
    }

    /// Continues to the next of the two signals.
    pub(super) fn run(&mut self) -> bool {
        ptrace::cont(self.thread, None).expect("it is stopped");
        self.stop() == SIGNAL
    }

    /// Continues by this many instructions. False: the act ended before.
    pub(super) fn step(&mut self, instructions: usize) -> bool {
        (0..instructions).all(|_| {
            ptrace::step(self.thread, None).expect("it is stopped");
            match self.stop() {
                Signal::SIGTRAP => true,
                SIGNAL => false,
                other => panic!("it got {other}"),
            }
        })
    }

    /// Kills it at its current instruction.
    pub(super) fn kill(mut self) {
        let leader = self.actor.pid() as i32;
        if self.thread.as_raw() != leader {
            // The process has not ended before its tracer has collected it.
            nix::sys::signal::kill(Pid::from_raw(leader), Signal::SIGKILL).expect("it lives");
            let _ = waitpid(self.thread, Some(WaitPidFlag::__WALL));
        }
        self.actor.kill();
    }

    /// Lets it continue to the end of its act, and returns its output.
    pub(super) fn let_go(mut self) -> String {
        ptrace::detach(self.thread, None).expect("it is stopped");
        let said = self.actor.hear();
        self.actor.say("");
        said
    }
}

/// The time between records, on a machine that is not busy.
pub(super) const SOON: Duration = Duration::from_millis(50);
