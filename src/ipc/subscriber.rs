//! One reader of the bus: a cursor, and a place to wait.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::bus::Bus;
use super::counters::ReaderTally;
use super::cursor::{Cursor, Next};

/// How long a sleep lasts at most: a publisher that died between commit and ring, or that cannot
/// reach this process, is noticed after this.
pub(super) const SAFETY_TICK: Duration = Duration::from_millis(250);

/// One reader of the bus, at its own place in the one order. Keeps the membership alive.
#[derive(Debug)]
pub struct Subscriber {
    bus: Bus,
    cursor: Cursor,
    tally: ReaderTally,
}

impl Subscriber {
    pub(super) fn new(bus: Bus, offset: u64) -> Subscriber {
        bus.reader_offsets()
            .replace(None, Some(offset), bus.counters());
        Subscriber {
            bus,
            cursor: Cursor::new(offset),
            tally: ReaderTally::new(offset),
        }
    }

    /// The next offset to read.
    pub fn offset(&self) -> u64 {
        self.cursor.offset()
    }

    /// The next record that is wanted: its frame is appended to `frames`, nothing else is.
    ///
    /// `wants` decides by the topic's hash before a byte of the frame is copied. It may be asked
    /// about records that turn out to be overwritten. Different topics can share a hash: compare
    /// [`Subscriber::topic`].
    #[inline]
    pub fn next(&mut self, wants: impl FnMut(u64) -> bool, frames: &mut Vec<u8>) -> Next {
        let next = self.cursor.next(self.bus.parts(), wants, frames);
        let reports = match &next {
            Next::Record(_) => self.tally.reads_one(),
            Next::Lagged(missed) => {
                self.tally.misses(*missed);
                true
            }
            Next::Empty => {
                self.bus.note_read_up_to(self.cursor.offset());
                true
            }
            Next::Skipped => false,
        };
        if reports && !self.bus.is_forked() {
            let offset = self.cursor.offset();
            self.tally
                .report(offset, self.bus.reader_offsets(), self.bus.counters());
        }
        next
    }

    /// What [`Next::Lagged`] has just told was for nobody: it does not count as missed.
    pub fn uncount_missed(&self, missed: u64) {
        if !self.bus.is_forked() {
            self.bus.counters().uncount_missed(missed);
        }
    }

    /// The end of the bus as it is now, for whoever reads up to there and no further, and then calls
    /// [`Subscriber::report_offset`].
    pub fn end(&self) -> u64 {
        self.bus.parts().log().end(self.cursor.offset())
    }

    /// What was to be read has been read, for now: others may know where this reader stands.
    pub fn report_offset(&mut self) {
        let offset = self.cursor.offset();
        self.bus.note_read_up_to(offset);
        if !self.bus.is_forked() {
            self.tally
                .report(offset, self.bus.reader_offsets(), self.bus.counters());
        }
    }

    /// The topic of the record that [`Subscriber::next`] returned last.
    pub fn topic(&self) -> &str {
        self.cursor.topic()
    }

    /// Passes by, without touching them, records whose topic hash has none of these tags: bit `t`
    /// (of 256, lowest first) stands for the hashes whose low 8 bits are `t`. At first all are set.
    ///
    /// Records of other tags do not count as missed, as far as their tags could still be read.
    pub fn set_tags(&mut self, tags: [u64; 4]) {
        self.cursor.set_tags(tags);
    }

    /// The tags of the records that the last [`Next::Lagged`] was about, as in [`Subscriber::set_tags`]. A
    /// topic of another tag has missed nothing.
    pub fn missed_tags(&self) -> [u64; 4] {
        self.cursor.missed_tags()
    }

    /// Waits until there is something to read, at most for `timeout`. False: there is nothing yet.
    ///
    /// Blocks this thread. Woken at once for topics of [`Bus::add_interest`], within a quarter of a
    /// second for others. Any number of threads may wait, each with its own subscriber; but a
    /// process whose event loop parks through [`Bus::parker`] waits there.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if self.is_ready() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.bus.is_forked() {
                return false;
            }
            self.bus
                .waiting()
                .sleep(&self.bus, left.min(SAFETY_TICK), self.offset());
        }
    }

    fn is_ready(&self) -> bool {
        is_ready(&self.bus, self.offset())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if !self.bus.is_forked() {
            let offset = Some(self.tally.reader_offset());
            self.bus
                .reader_offsets()
                .replace(offset, None, self.bus.counters());
        }
    }
}

fn is_ready(bus: &Bus, offset: u64) -> bool {
    !bus.parts().log().is_empty_at(offset)
}

/// The threads of this process that wait. There is one pipe: the first sleeps at it and passes the
/// wake-up on to the others.
#[derive(Debug, Default)]
pub(super) struct WaitQueue {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whether a thread sleeps at the pipe.
    has_sleeper: bool,
    /// How often such a thread woke up.
    wakes: u64,
    /// Whether the pipe is still full of what woke it.
    has_wakeup: bool,
}

impl WaitQueue {
    /// Sleeps until woken or `timeout`; returns for no reason at times.
    pub(super) fn sleep(&self, bus: &Bus, timeout: Duration, offset: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.has_sleeper {
            // Looked at under the lock: a wake-up after this finds us waiting.
            let wakes = state.wakes;
            if !is_ready(bus, offset) {
                let still = |state: &mut State| state.wakes == wakes;
                drop(self.woken.wait_timeout_while(state, timeout, still));
            }
            return;
        }
        state.has_sleeper = true;
        let mut has_wakeup = state.has_wakeup;
        drop(state);

        let parker = bus.parker();
        if has_wakeup {
            // Not right after waking: whoever was woken has a record to look at first.
            parker.clear();
            has_wakeup = false;
        }
        if parker.park(offset) {
            let millis = timeout.as_millis().max(1) as i32;
            let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(parker.fd(), PollFlags::POLLIN)];
            let woken = poll(&mut fds, timeout);
            parker.unpark();
            has_wakeup = woken != Ok(0);
            if woken == Ok(0) {
                bus.reap();
            }
        }

        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.has_sleeper = false;
        state.has_wakeup = has_wakeup;
        state.wakes += 1;
        self.woken.notify_all();
    }
}
