//! The schedule that decides when the I/O thread looks for items that another thread posts quietly. That thread
//! hands all items over at the end of its drain, but a long drain must not hold them back.
//!
//! A wake-up by the first post would cost more than it brings: the posts of a short drain would be taken in two
//! halves, and written in two. A look now and then costs nothing.
//!
//! A timer of the kernel times the looks, and the drainer sets it. A timer of the runtime would be set by the I/O
//! thread for each drain that begins after a rest. It would bring the thread back a moment later to find nothing:
//! that is 2,000 instructions of the 34,000 of an echo.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::net::unix::pipe;

use super::forks::Withheld;

/// The time from the first drain to the first look: a long drain is noticed after this time.
const SELDOM: Duration = Duration::from_millis(3);

/// The time between two looks during a long drain.
const OFTEN: Duration = Duration::from_millis(1);

/// The drains of one thread, and the timer that shows when looks are due.
#[derive(Debug)]
pub struct Drains {
    timer: TimerFd,
    schedule: Mutex<Schedule>,
    _withheld: Withheld,
}

impl Drains {
    /// No drain is under way. Fails when descriptors have run out.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let withheld = Withheld::new([timer.as_fd().as_raw_fd()])?;
        Ok(Self {
            timer,
            schedule: Mutex::default(),
            _withheld: withheld,
        })
    }

    /// Drainer: a drain begins.
    pub fn begin(&self, now: Instant) {
        let mut schedule = self.schedule();
        let delay = schedule.begin(now);
        self.set(delay);
    }

    /// Drainer: the drain is over. The items that it has posted are handed over next.
    pub fn end(&self) {
        let mut schedule = self.schedule();
        if schedule.end() {
            // It fails only for an invalid descriptor.
            let _ = self.timer.unset();
        }
    }

    /// I/O thread: calls `take` when it must take the items that the running drain has posted so far.
    pub async fn look(self: Arc<Self>, take: impl Fn()) -> io::Result<()> {
        let copy = self.timer.as_fd().try_clone_to_owned()?;
        let _withheld = Withheld::new([copy.as_raw_fd()])?;
        // The timer is not a pipe, but it is read like one. The runtime has no safe function for other descriptors.
        let expirations = pipe::Receiver::from_owned_fd_unchecked(copy)?;
        loop {
            expirations.readable().await?;
            if self.is_due(&expirations)? {
                take();
            }
        }
    }

    fn is_due(&self, expirations: &pipe::Receiver) -> io::Result<bool> {
        let mut schedule = self.schedule();
        match expirations.try_read(&mut [0; 8]) {
            Ok(_) => {}
            // The timer has been set again, or stopped, in the meantime.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        let (is_due, delay) = schedule.look();
        self.set(delay);
        Ok(is_due)
    }

    /// The caller must hold the lock of the schedule, so that the timer matches it.
    fn set(&self, delay: Option<Duration>) {
        if let Some(delay) = delay {
            let expiration = Expiration::OneShot(TimeSpec::from_duration(delay));
            let _ = self.timer.set(expiration, TimerSetTimeFlags::empty());
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time when a look is due.
#[derive(Debug, Default)]
struct Schedule {
    /// Odd while a drain is under way. Each drain has another number.
    drain: u64,
    /// The time when the last drain began.
    begun: Option<Instant>,
    /// The drain before the last one began long ago. Then the timer is stopped at the end of the drain, so that it
    /// does not wake a thread in vain. Where drains follow each other, it is left to expire now and then.
    is_rare: bool,
    /// The timer runs.
    is_set: bool,
    /// The drain that was under way at the last look.
    seen: Option<u64>,
}

impl Schedule {
    /// Returns the time that the timer must be set to, if it must be set.
    fn begin(&mut self, now: Instant) -> Option<Duration> {
        self.drain += 1;
        let before = self.begun.replace(now);
        self.is_rare = before.is_none_or(|before| now.duration_since(before) > SELDOM);
        if self.is_set {
            return None;
        }
        self.is_set = true;
        self.seen = None;
        Some(SELDOM)
    }

    /// True: the timer must be stopped.
    fn end(&mut self) -> bool {
        self.drain += 1;
        let stops = self.is_rare && self.is_set;
        self.is_set &= !stops;
        stops
    }

    /// The timer has expired. True: take the items that have been posted so far. The second value is the time that
    /// the timer must be set to.
    fn look(&mut self) -> (bool, Option<Duration>) {
        let drain = (self.drain % 2 == 1).then_some(self.drain);
        let has_ended = self.seen.is_some() && self.seen != drain;
        // Drains that end within two looks hand over their items by themselves.
        self.seen = if has_ended { None } else { drain };
        self.is_set = drain.is_some();
        let is_due = self.seen.is_some();
        let delay = if is_due { OFTEN } else { SELDOM };
        (is_due, self.is_set.then_some(delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of the first 100 milliseconds.
    #[derive(Default)]
    struct Found {
        /// Milliseconds at which posts were taken early.
        taken: Vec<u128>,
        /// The number of times that the timer was set or stopped, and that it woke the thread that looks.
        settings: usize,
        wakes: usize,
    }

    /// `drains`: the beginning and the end of each, in milliseconds.
    fn found(drains: &[(f64, f64)]) -> Found {
        let start = Instant::now();
        let millis = |at: f64| Duration::from_secs_f64(at / 1000.0);
        let mut events: Vec<_> = drains
            .iter()
            .flat_map(|(begin, end)| [(millis(*begin), true), (millis(*end), false)])
            .collect();
        events.reverse();
        let (mut schedule, mut expires, mut found) = (Schedule::default(), None, Found::default());
        loop {
            let next = events.last().map(|(at, _)| *at);
            let now = match (next, expires) {
                (None, None) => return found,
                (Some(next), Some(due)) => next.min(due),
                (next, due) => next.or(due).expect("one of them is there"),
            };
            if now > Duration::from_millis(100) {
                return found;
            }
            let delay = if next == Some(now) {
                let (_, begins) = events.pop().expect("it is the next one");
                if begins {
                    schedule.begin(start + now)
                } else {
                    if schedule.end() {
                        found.settings += 1;
                        expires = None;
                    }
                    None
                }
            } else {
                found.wakes += 1;
                expires = None;
                let (is_due, delay) = schedule.look();
                if is_due {
                    found.taken.push(now.as_millis());
                }
                delay
            };
            if let Some(delay) = delay {
                found.settings += 1;
                expires = Some(now + delay);
            }
        }
    }

    #[test]
    fn what_a_drain_posts_that_lasts_is_taken_every_millisecond() {
        assert_eq!(found(&[(0.0, 8.5)]).taken, [3, 4, 5, 6, 7, 8]);
        assert_eq!(found(&[(3.5, 9.5)]).taken, [6, 7, 8]);
    }

    #[test]
    fn a_drain_that_lasts_is_noticed_behind_many_short_ones() {
        let mut drains: Vec<_> = (0..200)
            .map(|at| (f64::from(at) / 10.0, f64::from(at) / 10.0 + 0.05))
            .collect();
        drains.push((20.0, 60.0));
        let taken = found(&drains).taken;
        let first = taken.iter().find(|at| **at >= 20);
        assert!(first.is_some_and(|at| *at <= 24), "{taken:?}");
        assert!(
            taken.iter().filter(|at| **at >= 24).count() >= 35,
            "{taken:?}"
        );
    }

    #[test]
    fn drains_that_are_short_are_disturbed_once_in_four_milliseconds_at_most() {
        let short: Vec<_> = (0..1000)
            .map(|at| (f64::from(at) / 10.0, f64::from(at + 1) / 10.0))
            .collect();
        let Found {
            taken, settings, ..
        } = found(&short);
        assert!((20..=25).contains(&taken.len()), "{taken:?}");
        assert!(
            taken.windows(2).all(|pair| pair[1] - pair[0] >= 3),
            "{taken:?}"
        );
        assert!(settings <= 60, "{settings}");
    }

    #[test]
    fn drains_that_come_now_and_then_wake_nobody() {
        let rare: Vec<_> = (0..10)
            .map(|at| (f64::from(at) * 10.0, f64::from(at) * 10.0 + 0.2))
            .collect();
        let Found {
            taken,
            settings,
            wakes,
        } = found(&rare);
        assert_eq!((taken, settings, wakes), (Vec::new(), 20, 0));
    }

    #[test]
    fn nothing_is_taken_while_no_drain_is_under_way() {
        assert_eq!(found(&[]).taken, [0; 0]);
        assert_eq!(found(&[(0.5, 2.5), (3.5, 5.5)]).taken, [0; 0]);
    }

    #[tokio::test]
    async fn the_timer_brings_looks_until_the_drain_ends() {
        let drains = Arc::new(Drains::new().expect("a timer"));
        let (told, mut looks) = tokio::sync::mpsc::unbounded_channel();
        let looking = tokio::spawn(
            Arc::clone(&drains).look(move || told.send(()).expect("the test listens")),
        );
        for _ in 0..2 {
            drains.begin(Instant::now());
            for _ in 0..3 {
                let look = tokio::time::timeout(Duration::from_secs(60), looks.recv()).await;
                assert_eq!(look, Ok(Some(())));
            }
            drains.end();
        }
        looking.abort();
    }
}
