//! The models of sleep and wake-up: a sleeper, one or two publishers, and a pipe that is a counter under a lock.

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::super::log::EntryState;
use super::super::sync::AtomicU64;
use super::super::wake::Sleepers;
use super::log::{LogMemory, entry};
use super::words;

/// A member that sleeps in slot 0, and the log.
struct SleepingMember {
    log: LogMemory,
    parked: AtomicU64,
    interest: Vec<AtomicU64>,
    members: Vec<AtomicU64>,
    /// Bytes in its pipe.
    pipe: Mutex<u32>,
    readable: Condvar,
}

impl SleepingMember {
    fn new() -> SleepingMember {
        SleepingMember {
            log: LogMemory::new(0),
            parked: AtomicU64::new(0),
            interest: words(1),
            members: words(1),
            pipe: Mutex::new(0),
            readable: Condvar::new(),
        }
    }

    fn sleepers(&self) -> Sleepers<'_> {
        Sleepers::new(&self.parked, &self.interest, &self.members)
    }

    /// Does what `Bus::publish` does after the copy. `lives`: whether it lives until the wake-up.
    fn publish(&self, publisher: u64, lives: bool) {
        let log = self.log.log();
        log.commit(0, entry(publisher, 0)).expect("a sound log");
        if self.sleepers().interested(0) & 1 != 0 {
            self.sleepers().wake(0, || lives && self.send_wakeup());
        }
    }

    fn send_wakeup(&self) -> bool {
        *self.pipe.lock().expect("no panic") += 1;
        self.readable.notify_one();
        true
    }

    /// Does what `Parker` and its caller do: reads until it has the entry of `awaited` or `until`. A lost wake-up is
    /// a deadlock here, which loom reports.
    fn read(&self, start: u64, until: u64, awaited: Option<u64>) {
        let (log, mut next) = (self.log.log(), start);
        for sleep in 1.. {
            while let EntryState::Filled(found) = log.state_at(next) {
                next += 1;
                if awaited == Some(u64::from(found.slot)) {
                    return;
                }
            }
            if next >= until {
                return;
            }
            self.sleepers().park(0, sleep);
            let may_sleep = log.is_empty_at(next);
            if may_sleep {
                let mut bytes = self.pipe.lock().expect("no panic");
                while *bytes == 0 {
                    bytes = self.readable.wait(bytes).expect("no panic");
                }
            }
            self.sleepers().unpark(0);
            *self.pipe.lock().expect("no panic") = 0;
        }
    }
}

#[test]
fn no_wakeup_is_lost_between_a_sleeper_and_two_publishers() {
    loom::model(|| {
        let member = Arc::new(SleepingMember::new());
        member.sleepers().set_interest(0, 0);
        let publishers = [0, 1].map(|publisher| {
            let member = Arc::clone(&member);
            thread::spawn(move || member.publish(publisher, true))
        });
        member.read(0, 2, None);
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
    });
}

#[test]
fn a_sleeper_is_woken_for_each_of_two_records_in_a_row() {
    loom::model(|| {
        let member = Arc::new(SleepingMember::new());
        member.sleepers().set_interest(0, 0);
        let other = Arc::clone(&member);
        let publisher = thread::spawn(move || {
            other.publish(0, true);
            other.publish(0, true);
        });
        member.read(0, 2, None);
        publisher.join().expect("no panic");
    });
}

#[test]
fn a_publisher_that_dies_before_its_wakeup_does_not_suppress_others() {
    loom::model(|| {
        let member = Arc::new(SleepingMember::new());
        member.sleepers().set_interest(0, 0);
        let publishers = [(0, false), (1, true)].map(|(publisher, lives)| {
            let member = Arc::clone(&member);
            thread::spawn(move || member.publish(publisher, lives))
        });
        member.read(0, 2, Some(1));
        for publisher in publishers {
            publisher.join().expect("no panic");
        }
    });
}

#[test]
fn a_publisher_behind_the_start_of_a_subscription_wakes_the_subscriber() {
    loom::model(|| {
        let member = Arc::new(SleepingMember::new());
        let other = Arc::clone(&member);
        let publisher = thread::spawn(move || other.publish(0, true));
        member.sleepers().set_interest(0, 0);
        member.read(member.log.log().end(0), 1, None);
        publisher.join().expect("no panic");
    });
}
