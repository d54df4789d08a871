//! How a publisher that may block waits for the hubs of a server, and for how long.
//!
//! It stays within an eighth of its ring, and of the log, of every hub that comes on. That is looked at
//! before a record is put on the bus, under the producer's lock, so that many threads of one process
//! together keep to it too; it is waited for outside of all locks. An eighth that was not read, a record
//! of a quarter, a quarter that a large record leaves unused at the ring's end, and the next record
//! of a quarter still lie in one ring. A worker that takes in less from its clients does so at a quarter:
//! with one threshold for both, hubs would hover where clients are made to wait.
//!
//! The usual publish costs one comparison: readers only come on, so a look at all of them is good until
//! an eighth more has been published.
//!
//! A reader that stands still is waited for a tenth of a second and then abandoned, in exactly the state in which it
//! stands: whichever process has waited, all others see it, until it moves. One that is ready to run and
//! gets no processor has more time. One that moves, but too little, is abandoned at the end of one publish, until it
//! has caught up. Such a hub is overtaken, and learns of it like any reader that falls behind.
//!
//! Nothing is ordered by any of this: all words are read and written relaxed, as advice. One that comes
//! late costs a look more, for who waits looks again and again. So there is no model of it in `proofs`.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::bus::Bus;
use super::error::PublishError;
use super::layout::MAX_MEMBERS;
use super::record::Draft;
use super::sync::{Ordering, process};

/// For how long a hub is waited for that stands still.
const STILL: Duration = Duration::from_millis(100);

/// How long one publish waits at most.
const LONGEST: Duration = Duration::from_secs(5);

/// After so long without a move it is asked whether that hub's process lives.
const MAY_BE_DEAD: Duration = Duration::from_millis(5);

/// How soon to look again. More often gains nothing, four times as seldom costs a fifth of the throughput.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// A record that was put on the bus by who may wait.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publication {
    /// Its offset.
    pub offset: u64,
    /// Hubs that were waited for in vain. Each is named once, until it has caught up.
    pub abandoned_hubs: Vec<AbandonedHub>,
}

/// A hub that is not waited for any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AbandonedHub {
    /// Process id of its worker.
    pub pid: u64,
    /// It stood still: its process is stopped, or stuck. Else it comes on, but far too slowly.
    pub made_no_progress: bool,
}

/// What a hub says of itself. While it stays the same, the hub stands still.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct HubProgress {
    incarnation: u32,
    pace: u64,
    beat: u64,
}

/// What one process knows of the hubs that it may wait for.
#[derive(Debug)]
pub(super) struct Patience {
    /// All that count had read everything before this offset when they were last looked at.
    reached: process::AtomicU64,
    /// By slot: the life of a hub that came on too slowly, until it has caught up.
    too_slow: [process::AtomicU32; MAX_MEMBERS],
    /// By slot: the life of a hub that was named as left behind, until it has caught up.
    named: [process::AtomicU32; MAX_MEMBERS],
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            reached: process::AtomicU64::new(0),
            too_slow: [const { process::AtomicU32::new(0) }; MAX_MEMBERS],
            named: [const { process::AtomicU32::new(0) }; MAX_MEMBERS],
        }
    }
}

/// A hub that is to be waited for.
#[derive(Clone, Copy, Debug)]
struct SlowHub {
    slot: u8,
    stance: HubProgress,
}

/// One publish that waits.
struct Wait {
    began: Instant,
    /// Who was behind at the last look, and since when it has stood there.
    standing: Vec<HubWait>,
    abandoned_hubs: Vec<AbandonedHub>,
}

struct HubWait {
    behind: SlowHub,
    since: Instant,
    /// How long it may stand until it is asked why.
    ask_after: Duration,
}

impl Bus {
    /// As [`Bus::publish`], unless a hub that comes on is an eighth of the ring or of the log behind:
    /// then `None`, and nothing is published. Does not block either.
    #[inline]
    pub fn try_publish(&self, draft: &Draft<'_>) -> Result<Option<u64>, PublishError> {
        self.publish_within(draft).map(Result::ok)
    }

    /// As [`Bus::publish`], after every hub that comes on has come within an eighth of the ring and of
    /// the log. Blocks this thread for five seconds at most; for a hub that stands still, a tenth of a second,
    /// once. Not for a thread that a hub, or a client, waits for.
    pub fn publish_blocking(&self, draft: &Draft<'_>) -> Result<Publication, PublishError> {
        let mut wait = None;
        let offset = loop {
            let to_be_read = match self.publish_within(draft)? {
                Ok(offset) => break offset,
                Err(to_be_read) => to_be_read,
            };
            let wait = wait.get_or_insert_with(Wait::new);
            self.wait_until_read(to_be_read, wait);
            if wait.began.elapsed() >= LONGEST {
                break self.publish(draft)?;
            }
        };
        let abandoned_hubs = match wait {
            None => Vec::new(),
            Some(wait) => {
                let micros = wait.began.elapsed().as_micros();
                self.counters()
                    .count_wait(micros.try_into().unwrap_or(u64::MAX));
                wait.abandoned_hubs
            }
        };
        Ok(Publication {
            offset,
            abandoned_hubs,
        })
    }

    /// The offset; or up to where somebody who is waited for has yet to read.
    #[inline]
    fn publish_within(&self, draft: &Draft<'_>) -> Result<Result<u64, u64>, PublishError> {
        let reached = &self.patience().reached;
        let reached = || Some(reached.load(Ordering::Relaxed));
        let published = self.publish_if_read(draft, reached())?;
        if let Err(to_be_read) = published
            && self.behind(to_be_read).is_empty()
        {
            return self.publish_if_read(draft, reached());
        }
        Ok(published)
    }

    /// The hubs that have not read up to `to_be_read` and are to be waited for. Sleepers among them are
    /// woken: nothing that they want need have woken them, and yet they have to go past it.
    #[cold]
    fn behind(&self, to_be_read: u64) -> Vec<SlowHub> {
        let (parts, patience) = (self.parts(), self.patience());
        let table = parts.table();
        // Until an eighth more has been published, nobody needs to be looked at again.
        let mut reached = self.end().max(to_be_read);
        let mut behind = Vec::new();
        for slot in 0..MAX_MEMBERS as u8 {
            let counters = parts.counters(slot);
            let Some(pace) = counters.pace().filter(|_| table.is_taken(slot)) else {
                continue;
            };
            let stance = HubProgress {
                incarnation: table.incarnation(slot),
                pace,
                beat: counters.beat(),
            };
            let too_slow = &patience.too_slow[usize::from(slot)];
            if pace >= to_be_read {
                too_slow.store(0, Ordering::Relaxed);
                patience.named[usize::from(slot)].store(0, Ordering::Relaxed);
                reached = reached.min(pace);
                continue;
            }
            let stands = counters.abandoned_at() == Some(stance.beat);
            if stands || too_slow.load(Ordering::Relaxed) == stance.incarnation {
                continue;
            }
            self.wake_members(1 << slot);
            behind.push(SlowHub { slot, stance });
        }
        if behind.is_empty() {
            patience.reached.fetch_max(reached, Ordering::Relaxed);
        }
        behind
    }

    /// Returns when all have read so far, or are abandoned.
    fn wait_until_read(&self, to_be_read: u64, wait: &mut Wait) {
        loop {
            let behind = self.behind(to_be_read);
            if behind.is_empty() {
                return;
            }
            for it in behind {
                self.judge(it, wait);
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Gives a hub up if it has been waited for long enough.
    fn judge(&self, behind: SlowHub, wait: &mut Wait) {
        let now = Instant::now();
        let standing = wait.standing_of(behind, now);
        let stood = now.duration_since(standing.since);
        let asks = stood >= standing.ask_after;
        if asks {
            standing.ask_after = STILL.max(2 * standing.ask_after);
        }
        if asks && stood < STILL && !self.is_alive(behind.slot) {
            self.gives_up(behind, true); // whoever reaps it will say so
            return;
        }
        let made_no_progress = asks && stood >= STILL && !self.is_about_to_run(behind.slot);
        if !made_no_progress && now.duration_since(wait.began) < LONGEST {
            return;
        }
        self.gives_up(behind, made_no_progress);
        let SlowHub { slot, stance } = behind;
        let named = &self.patience().named[usize::from(slot)];
        let is_news = named.swap(stance.incarnation, Ordering::Relaxed) != stance.incarnation;
        if is_news && self.is_alive(slot) {
            let pid = self.parts().table().identity(slot).pid;
            wait.abandoned_hubs.push(AbandonedHub {
                pid,
                made_no_progress,
            });
        }
    }

    fn gives_up(&self, behind: SlowHub, stands_still: bool) {
        let SlowHub { slot, stance } = behind;
        if stands_still {
            self.parts().counters(slot).abandon(stance.beat);
        } else {
            let too_slow = &self.patience().too_slow[usize::from(slot)];
            too_slow.store(stance.incarnation, Ordering::Relaxed);
        }
    }

    /// Whether the thread of a hub could go on at once and gets no processor, or waits for a disk. Of one
    /// that cannot be asked about (another PID namespace) it is not believed.
    fn is_about_to_run(&self, slot: u8) -> bool {
        let pid = self.parts().table().identity(slot).pid;
        let thread = self.parts().counters(slot).thread();
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat"));
        // The name may hold anything, so look behind its end.
        stat.is_ok_and(|stat| {
            let state = stat
                .rsplit_once(')')
                .map_or("", |(_, rest)| rest.trim_start());
            state.starts_with(['R', 'D'])
        })
    }
}

impl Wait {
    fn new() -> Wait {
        Wait {
            began: Instant::now(),
            standing: Vec::new(),
            abandoned_hubs: Vec::new(),
        }
    }

    /// Since when it has stood as it stands now.
    fn standing_of(&mut self, behind: SlowHub, now: Instant) -> &mut HubWait {
        let known = self
            .standing
            .iter()
            .position(|it| it.behind.slot == behind.slot);
        let new = HubWait {
            behind,
            since: now,
            ask_after: MAY_BE_DEAD,
        };
        let at = known.unwrap_or_else(|| {
            self.standing.push(HubWait { ..new });
            self.standing.len() - 1
        });
        if self.standing[at].behind.stance != behind.stance {
            self.standing[at] = new;
        }
        &mut self.standing[at]
    }
}
