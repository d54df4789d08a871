//! The publishers that wait for slow hubs: how far a hub may fall behind, and how long a publisher waits.
//!
//! A publisher that may block stays within an eighth of its ring, and of the log, of every hub that makes progress. The
//! check comes before a record is put on the bus, under the producer's lock, so that it covers all threads of a
//! process together. The wait happens outside of all locks. The unread eighth, a record of a quarter, a quarter that a
//! large record leaves unused at the ring's end, and the next record of a quarter still fit into one ring. A
//! worker takes in less from its clients at a quarter: with the same threshold for both, hubs would stay at the point
//! where clients have to wait.
//!
//! The usual publish costs one comparison. Offsets of readers only grow, so one look at all hubs is good until an
//! eighth more has been published.
//!
//! A hub that makes no progress for a tenth of a second is abandoned at its current beat: no process waits for it
//! until the beat changes. A hub whose thread is ready to run and gets no processor has more time. A hub that makes
//! progress, but too little, is abandoned at the end of one publish, until it has caught up. Such a hub is
//! overtaken, and learns of it like any reader that falls behind.
//!
//! These words order nothing: all are read and written relaxed, as advice. A word that is seen late costs one more
//! look, because a waiting publisher looks again and again. So `proofs` has no model of this.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use super::bus::Bus;
use super::counters::Counter;
use super::error::PublishError;
use super::layout::MAX_MEMBERS;
use super::record::Draft;

/// Longest wait for a hub that makes no progress.
const NO_PROGRESS_LIMIT: Duration = Duration::from_millis(100);

/// Longest wait of one publish.
const PUBLISH_LIMIT: Duration = Duration::from_secs(5);

/// After this time without progress of a hub, its token is checked: its process may be dead.
const LIVENESS_CHECK_AFTER: Duration = Duration::from_millis(5);

/// Pause between two looks. A shorter one gains nothing, one four times as long costs a fifth of the throughput.
const LOOK_INTERVAL: Duration = Duration::from_micros(200);

/// The result of a publish that may have waited.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publication {
    /// The offset of the record.
    pub offset: u64,
    /// The hubs that this publish stopped waiting for. Each is reported once, until it has caught up.
    pub abandoned_hubs: Vec<AbandonedHub>,
}

/// A hub that publishers no longer wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AbandonedHub {
    /// Process id of its worker.
    pub pid: u64,
    /// The hub made no progress: its process is stopped or stuck. False: it makes progress, but too slowly.
    pub made_no_progress: bool,
}

/// The progress of a hub, from its slot. While it stays the same, the hub makes none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct HubProgress {
    incarnation: u32,
    pace: u64,
    beat: u64,
}

/// A hub that a publisher waits for.
#[derive(Clone, Copy, Debug)]
struct SlowHub {
    slot: u8,
    progress: HubProgress,
}

/// The wait of one publish.
struct PublishWait {
    began: Instant,
    /// The hubs that were slow at the last look.
    hubs: Vec<HubWait>,
    abandoned_hubs: Vec<AbandonedHub>,
}

/// The wait for one hub.
struct HubWait {
    hub: SlowHub,
    /// Since when its progress is the same.
    since: Instant,
    /// The age at which the state of its process is checked next.
    check_after: Duration,
}

impl Bus {
    /// As [`Bus::publish`], unless a hub that makes progress is an eighth of the ring or of the log behind: then
    /// nothing is published, and the result is `None`. It does not block either.
    #[inline]
    pub fn try_publish(&self, draft: &Draft<'_>) -> Result<Option<u64>, PublishError> {
        self.publish_within(draft).map(Result::ok)
    }

    /// As [`Bus::publish`], after every hub that makes progress has come within an eighth of the ring and of the log.
    /// Blocks this thread for five seconds at most; for a hub that makes no progress, a tenth of a second, once. Not
    /// for a thread that a hub or a client waits for.
    pub fn publish_blocking(&self, draft: &Draft<'_>) -> Result<Publication, PublishError> {
        let mut wait = None;
        let offset = loop {
            let to_be_read = match self.publish_within(draft)? {
                Ok(offset) => break offset,
                Err(to_be_read) => to_be_read,
            };
            let wait = wait.get_or_insert_with(PublishWait::new);
            self.wait_until_read(to_be_read, wait);
            if wait.began.elapsed() >= PUBLISH_LIMIT {
                break self.publish(draft)?;
            }
        };
        let abandoned_hubs = match wait {
            None => Vec::new(),
            Some(wait) => {
                let micros = wait.began.elapsed().as_micros();
                let micros = micros.try_into().unwrap_or(u64::MAX);
                self.count(Counter::Waits, 1);
                self.count(Counter::WaitedMicros, micros);
                wait.abandoned_hubs
            }
        };
        Ok(Publication {
            offset,
            abandoned_hubs,
        })
    }

    /// Publishes if all hubs are near enough. The inner error is the offset that a slow hub has yet to reach.
    #[inline]
    fn publish_within(&self, draft: &Draft<'_>) -> Result<Result<u64, u64>, PublishError> {
        let notes = &self.shared.hub_notes;
        let published = self.publish_if_read(draft, Some(notes.reached()))?;
        if let Err(to_be_read) = published
            && self.slow_hubs(to_be_read).is_empty()
        {
            return self.publish_if_read(draft, Some(notes.reached()));
        }
        Ok(published)
    }

    /// The hubs that have not read up to `to_be_read` and that publishers wait for. Those that sleep are woken: the
    /// records that they want have woken them, but they must also pass the other records.
    #[cold]
    fn slow_hubs(&self, to_be_read: u64) -> Vec<SlowHub> {
        let (parts, notes) = (self.parts(), &self.shared.hub_notes);
        let table = parts.table();
        // Until an eighth more has been published, no other look is needed.
        let mut reached = self.end().max(to_be_read);
        let mut slow = Vec::new();
        for slot in 0..MAX_MEMBERS as u8 {
            let counters = parts.counters(slot);
            let Some(pace) = counters.pace().filter(|_| table.is_taken(slot)) else {
                continue;
            };
            let progress = HubProgress {
                incarnation: table.incarnation(slot),
                pace,
                beat: counters.beat(),
            };
            if pace >= to_be_read {
                notes.note_caught_up(slot);
                reached = reached.min(pace);
                continue;
            }
            let is_abandoned = counters.abandoned_at() == Some(progress.beat);
            if is_abandoned || notes.is_too_slow(slot, progress.incarnation) {
                continue;
            }
            self.wake_members(1 << slot);
            slow.push(SlowHub { slot, progress });
        }
        if slow.is_empty() {
            notes.note_reached(reached);
        }
        slow
    }

    /// Returns when all hubs have read this far, or are abandoned.
    fn wait_until_read(&self, to_be_read: u64, wait: &mut PublishWait) {
        loop {
            let slow = self.slow_hubs(to_be_read);
            if slow.is_empty() {
                return;
            }
            for hub in slow {
                self.judge(hub, wait);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Abandons a hub if this publish has waited for it long enough.
    fn judge(&self, hub: SlowHub, wait: &mut PublishWait) {
        let now = Instant::now();
        let hub_wait = wait.wait_for(hub, now);
        let waited = now.duration_since(hub_wait.since);
        let is_check_due = waited >= hub_wait.check_after;
        if is_check_due {
            hub_wait.check_after = NO_PROGRESS_LIMIT.max(2 * hub_wait.check_after);
        }
        if is_check_due && waited < NO_PROGRESS_LIMIT && !self.is_alive(hub.slot) {
            self.abandon_hub(hub, true); // the member that reaps it reports the death
            return;
        }
        let made_no_progress =
            is_check_due && waited >= NO_PROGRESS_LIMIT && !self.is_about_to_run(hub.slot);
        if !made_no_progress && now.duration_since(wait.began) < PUBLISH_LIMIT {
            return;
        }
        self.abandon_hub(hub, made_no_progress);
        let SlowHub { slot, progress } = hub;
        let notes = &self.shared.hub_notes;
        let is_news = notes.note_reported(slot, progress.incarnation);
        if is_news && self.is_alive(slot) {
            let pid = self.parts().table().identity(slot).pid;
            wait.abandoned_hubs.push(AbandonedHub {
                pid,
                made_no_progress,
            });
        }
    }

    fn abandon_hub(&self, hub: SlowHub, made_no_progress: bool) {
        let SlowHub { slot, progress } = hub;
        if made_no_progress {
            self.parts().counters(slot).abandon(progress.beat);
        } else {
            let notes = &self.shared.hub_notes;
            notes.note_too_slow(slot, progress.incarnation);
        }
    }

    /// Whether the thread of a hub is ready to run but gets no processor, or waits for a disk. False if that cannot
    /// be found out (another PID namespace).
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

impl PublishWait {
    fn new() -> PublishWait {
        PublishWait {
            began: Instant::now(),
            hubs: Vec::new(),
            abandoned_hubs: Vec::new(),
        }
    }

    /// The wait for a hub, which starts again whenever the hub makes progress.
    fn wait_for(&mut self, hub: SlowHub, now: Instant) -> &mut HubWait {
        let known = self.hubs.iter().position(|it| it.hub.slot == hub.slot);
        let new = HubWait {
            hub,
            since: now,
            check_after: LIVENESS_CHECK_AFTER,
        };
        let at = known.unwrap_or_else(|| {
            self.hubs.push(HubWait { ..new });
            self.hubs.len() - 1
        });
        if self.hubs[at].hub.progress != hub.progress {
            self.hubs[at] = new;
        }
        &mut self.hubs[at]
    }
}
