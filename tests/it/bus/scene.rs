//! The observers of a process that is stepped through its act: a reader that sleeps, and one that polls.

use std::fs;
use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use fanbus::ipc::{Bus, Member, Next, Subscriber};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::killpoints::is_whole_run;
use super::process::{Name, PATIENCE, until};
use super::roles::{draft, hash};
use super::stepped::{SOON, tiny};

// The layout, as in docs/bus.md.
const TAIL: usize = 128;
const PARKED: usize = 256;
const INTEREST: usize = 4096;
const MEMBERS: usize = 266_240;
const MEMBER_BYTES: usize = 512;
const STATE: usize = 256;
const COUNTERS: usize = 384;
const LOG: usize = 299_008;
const RINGS: usize = LOG + 4096;
const RING_BYTES: usize = 4096;

/// The result of a read: a record, or a gap.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Got {
    Record(u64, Vec<u8>),
    Missed(u64),
}

/// Reads once. `None`: nothing more.
pub(super) fn read(subscriber: &mut Subscriber) -> Option<Got> {
    let mut frames = Vec::new();
    loop {
        match subscriber.next(|_| true, &mut frames) {
            Next::Record(head) => return Some(Got::Record(head.offset, frames[5..].to_vec())),
            Next::Lagged(count) => return Some(Got::Missed(count)),
            Next::Skipped => {}
            Next::Empty => return None,
        }
    }
}

pub(super) struct Scene {
    pub(super) name: Name,
    /// Publishes afterwards.
    pub(super) writer: Bus,
    /// Reads when the test calls it.
    pub(super) looker: Subscriber,
    /// The member that sleeps, in a thread, until its pipe wakes it.
    sleeper: Member,
    arrivals: Receiver<(Got, Instant)>,
    thread: JoinHandle<()>,
    /// The time that the sleeper took to get each record of the writer.
    pub(super) delays: Vec<Duration>,
}

impl Scene {
    pub(super) fn new(test: &str) -> Scene {
        let name = Name::new(test);
        let bus = Bus::open(&name.0, &tiny()).expect("it opens");
        let sleeper = bus.member();
        let writer = Bus::open(&name.0, &tiny()).expect("it opens");
        let looker = writer.subscriber();
        let (sender, arrivals) = channel();
        bus.add_interest(hash());
        let mut subscriber = bus.subscriber();
        let thread = thread::spawn(move || {
            let parker = bus.parker();
            loop {
                while let Some(got) = read(&mut subscriber) {
                    let is_end = matches!(&got, Got::Record(_, payload) if payload == b"end");
                    if sender.send((got, Instant::now())).is_err() || is_end {
                        return;
                    }
                }
                if parker.park(subscriber.offset()) {
                    let mut fds = [PollFd::new(parker.fd(), PollFlags::POLLIN)];
                    let ready = poll(&mut fds, PollTimeout::from(30_000_u16));
                    assert_eq!(ready, Ok(1), "no wake-up came");
                    parker.unpark();
                    parker.clear();
                }
            }
        });
        Scene {
            name,
            writer,
            looker,
            sleeper,
            arrivals,
            thread,
            delays: Vec::new(),
        }
    }

    /// All bytes of the segment, once the sleeper sleeps.
    pub(super) fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        until("it sleeps", || {
            bytes = fs::read(self.name.path()).expect("the segment");
            word(&bytes, PARKED) & 1 << self.sleeper.slot != 0
        });
        bytes
    }

    /// Checks that nothing changed but the words of the dead member, the word that it was about to commit, and the
    /// words of the member that it woke, which counts that itself.
    pub(super) fn assert_only_it_wrote(&self, before: &[u8], slot: u8, end: u64) {
        let after = fs::read(self.name.path()).expect("the segment");
        let at = |slot: u8| MEMBERS + usize::from(slot) * MEMBER_BYTES;
        let ring = RINGS + usize::from(slot) * RING_BYTES;
        let entry = LOG + 8 * (end as usize % tiny().log_entries);
        let allowed: [Range<usize>; 7] = [
            TAIL..TAIL + 8,
            PARKED..PARKED + 8,
            at(slot)..at(slot) + MEMBER_BYTES,
            at(self.sleeper.slot)..at(self.sleeper.slot) + 8,
            at(self.sleeper.slot) + COUNTERS..at(self.sleeper.slot) + MEMBER_BYTES,
            entry..entry + 8,
            ring..ring + RING_BYTES,
        ];
        assert_eq!(before.len(), after.len());
        if before == after {
            return;
        }
        for (byte, (old, new)) in before.iter().zip(&after).enumerate() {
            let is_allowed = old == new || allowed.iter().any(|range| range.contains(&byte));
            assert!(is_allowed, "byte {byte} changed from {old} to {new}");
        }
    }

    /// Publishes, and checks that both readers have exactly `expected` and then this record, in this order.
    pub(super) fn publish_and_expect(&mut self, payload: &[u8], mut expected: Vec<Got>) {
        let before = Instant::now();
        let offset = self.writer.publish(&draft(payload)).expect("a sound bus");
        expected.push(Got::Record(offset, payload.to_vec()));
        for expected in &expected {
            let (got, at) = self.arrivals.recv_timeout(PATIENCE).expect("it is woken");
            assert_eq!(&got, expected, "the sleeper");
            if got == Got::Record(offset, payload.to_vec()) {
                self.delays.push(at - before);
            }
            assert_eq!(
                read(&mut self.looker).as_ref(),
                Some(expected),
                "the looker"
            );
        }
        assert_eq!(read(&mut self.looker), None);
    }

    /// The records that the sleeper got up to `offset`.
    pub(super) fn arrived(&mut self, offset: u64) -> Vec<Got> {
        let mut all = Vec::new();
        loop {
            let (got, _) = self.arrivals.recv_timeout(PATIENCE).expect("it is woken");
            all.push(got);
            if matches!(all.last(), Some(Got::Record(at, _)) if *at == offset) {
                return all;
            }
        }
    }

    /// Cleans up after exactly this member, and checks that nothing of it is left.
    pub(super) fn reap(&self, dead: Member) {
        assert_eq!(self.writer.reap_members(), [dead]);
        let bytes = fs::read(self.name.path()).expect("the segment");
        let bit = 1 << dead.slot;
        assert_eq!(word(&bytes, PARKED) & bit, 0, "it sleeps for ever");
        let interested = (INTEREST..MEMBERS)
            .step_by(8)
            .any(|at| word(&bytes, at) & bit != 0);
        assert!(!interested, "its interest is left");
        let state = MEMBERS + usize::from(dead.slot) * MEMBER_BYTES + STATE;
        assert_eq!(word(&bytes, state), 0, "its slot is taken");
    }

    /// Ends the sleeper. It fails if anything but its pipe has woken it. Returns its longest delay. In a complete
    /// run, with no other load, 99 of 100 records came soon.
    pub(super) fn end(mut self) -> Duration {
        self.publish_and_expect(b"end", Vec::new());
        self.thread.join().expect("the sleeper was woken each time");
        let late = self.delays.iter().filter(|delay| **delay > SOON).count();
        assert!(
            !is_whole_run() || late <= self.delays.len() / 100,
            "{late} of {} were late",
            self.delays.len()
        );
        *self
            .delays
            .iter()
            .max()
            .expect("there was at least the end")
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}
