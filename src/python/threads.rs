//! Python threads for synchronous handlers: as many as keep Python's lock busy, and no more, as [`Sizing`]
//! finds out. Without the lock at least one per core.
//!
//! A thread is *at work* from the moment when it is woken or started until it rests again. So many of them
//! are at work as are allowed, if there are jobs for them. One that is woken takes its job when it has the
//! lock, not before: a job must not wait in the hands of a thread that waits.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use slab::Slab;

use super::cpu::CpuClock;
use crate::actors::session::SessionKey;
use crate::actors::sizing::{Seen, Sizing};
use crate::http::handler::Call;
use crate::http::replies::ReplyKey;

/// Work for a synchronous handler.
pub(super) enum Job {
    /// Answer a request.
    Request { call: Call, reply: ReplyKey },
    /// Say whether the client of a turbo route may come in.
    Admit { call: Call, session: SessionKey },
}

/// Between two looks at what the threads do, while jobs wait.
pub(super) const LOOK: Duration = Duration::from_millis(1);

/// An idle thread beyond the first ends after this time.
const IDLE: Duration = Duration::from_secs(30);

/// Jobs that may wait before the worker calls itself full.
const MOST_JOBS: usize = 4096;

/// A thread that has done a job lets the event loop have the lock for so long, if that wants it.
const GIVE_WAY: Duration = Duration::from_micros(20);

/// See the module's documentation.
pub(super) struct Threads {
    inside: Mutex<Inside>,
    work: Condvar,
    most: usize,
    /// Threads that can run Python at the same time.
    side_by_side: usize,
}

struct Inside {
    queue: VecDeque<Job>,
    sizing: Sizing,
    /// Threads there are.
    threads: usize,
    /// Those that are at work.
    at_work: usize,
    /// Those of them that have been woken or started, and have not come to the queue yet.
    coming: usize,
    /// Threads that rest and are to come to work.
    called: usize,
    /// The queue was empty at some moment since the last look.
    ran_dry: bool,
    /// A thread has taken a job since the last look.
    took_a_job: bool,
    event_loop: Option<Watched>,
    /// The threads there are.
    clocks: Slab<Watched>,
    last_look: Instant,
    stopping: bool,
    /// None before the start, and at the end.
    user_code: Option<Arc<UserCode>>,
}

/// What has CPU time that counts.
struct Watched {
    clock: CpuClock,
    /// At the last look at which it had worked.
    cpu: Duration,
    /// It has had a job since the last look.
    has_worked: bool,
    is_at_work: bool,
}

impl Watched {
    /// CPU time since this was last asked.
    fn spent(&mut self) -> Duration {
        if !self.has_worked {
            return Duration::ZERO; // a thread that rests costs nothing, not even the look
        }
        self.has_worked = self.is_at_work;
        let before = std::mem::replace(&mut self.cpu, self.clock.read());
        self.cpu.saturating_sub(before)
    }
}

/// What threads have to do with.
pub(super) struct UserCode {
    /// Does a job, attached to Python.
    pub run: Box<dyn Fn(Python<'_>, Job) + Send + Sync>,
    /// Does the event loop want to run?
    pub loop_wants_lock: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A thread, as long as it lives.
struct Member<'a> {
    threads: &'a Threads,
    key: usize,
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let mut inside = self.threads.lock();
        inside.clocks.remove(self.key);
        if thread::panicking() {
            // Not counted any more, so that another takes its place.
            inside.threads -= 1;
            inside.at_work -= 1;
        }
    }
}

impl Threads {
    /// At most so many threads, of which so many can run Python at the same time.
    pub(super) fn new(most: usize, side_by_side: usize) -> Arc<Self> {
        let most = most.max(1);
        let inside = Inside {
            queue: VecDeque::new(),
            sizing: Sizing::new(side_by_side, most),
            threads: 0,
            at_work: 0,
            coming: 0,
            called: 0,
            ran_dry: true,
            took_a_job: false,
            event_loop: None,
            clocks: Slab::new(),
            last_look: Instant::now(),
            stopping: false,
            user_code: None,
        };
        Arc::new(Self {
            inside: Mutex::new(inside),
            work: Condvar::new(),
            most,
            side_by_side,
        })
    }

    /// Event loop: what jobs are done with. The loop runs on this thread.
    pub(super) fn run_with(&self, user_code: UserCode) {
        let clock = CpuClock::of_this_thread();
        let mut inside = self.lock();
        inside.event_loop = Some(Watched {
            clock,
            cpu: clock.read(),
            has_worked: true,
            is_at_work: true, // nobody knows when it is not
        });
        inside.user_code = Some(Arc::new(user_code));
    }

    /// May more work be taken in?
    pub(super) fn has_room(&self) -> bool {
        self.lock().queue.len() < MOST_JOBS
    }

    /// I/O thread: queues `jobs`, and wakes or starts the threads that may do them.
    pub(super) fn post(self: &Arc<Self>, jobs: &mut Vec<Job>) {
        let mut inside = self.lock();
        inside.queue.extend(jobs.drain(..));
        self.call_to_work(&mut inside);
    }

    /// I/O thread: do jobs wait, so that somebody has to look?
    pub(super) fn has_waiting(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// I/O thread: looks begin, the first one after [`LOOK`].
    pub(super) fn begin_to_look(&self) {
        let mut inside = self.lock();
        inside.sizing.rested();
        inside.last_look = Instant::now();
        let inside = &mut *inside;
        let threads = inside.clocks.iter_mut().map(|(_, watched)| watched);
        for watched in inside.event_loop.iter_mut().chain(threads) {
            watched.spent();
        }
    }

    /// I/O thread: allows more threads or fewer. False: there is no need to look again.
    pub(super) fn look(self: &Arc<Self>) -> bool {
        let mut inside = self.lock();
        let inside = &mut *inside;
        let now = Instant::now();
        let loop_cpu = inside
            .event_loop
            .as_mut()
            .map_or(Duration::ZERO, Watched::spent);
        let at_work = inside.clocks.iter_mut().map(|(_, watched)| watched.spent());
        let threads_cpu = at_work.sum();
        let seen = Seen {
            elapsed: now.duration_since(inside.last_look),
            threads_cpu,
            loop_cpu,
            took_a_job: inside.took_a_job,
            ran_dry: inside.ran_dry,
            all_at_work: inside.coming == 0 && inside.at_work >= inside.sizing.allowed(),
        };
        inside.last_look = now;
        inside.ran_dry = inside.queue.is_empty();
        inside.took_a_job = false;
        let allowed = inside.sizing.look(seen);
        self.call_to_work(inside);
        !inside.queue.is_empty() || allowed > self.side_by_side
    }

    /// Does a job wait, or is one being done?
    pub(super) fn are_busy(&self) -> bool {
        let inside = self.lock();
        !inside.queue.is_empty() || inside.at_work > 0
    }

    /// Ends the threads that have nothing to do; the others end with their job.
    pub(super) fn stop(&self) {
        let mut inside = self.lock();
        inside.stopping = true;
        inside.user_code = None;
        self.work.notify_all();
    }

    /// Has as many threads come to work as are allowed and have something to do.
    fn call_to_work(self: &Arc<Self>, inside: &mut Inside) {
        // Those who come take a job each, if they come first.
        let wanted = inside.queue.len().saturating_sub(inside.coming);
        let allowed = inside.sizing.allowed().saturating_sub(inside.at_work);
        for _ in 0..wanted.min(allowed) {
            let resting = inside.threads - inside.at_work;
            if resting > 0 {
                inside.called += 1;
                self.work.notify_one();
            } else if inside.threads >= self.most || !self.start_thread(inside) {
                return;
            }
            inside.at_work += 1;
            inside.coming += 1;
        }
    }

    fn start_thread(self: &Arc<Self>, inside: &mut Inside) -> bool {
        let Some(user_code) = inside.user_code.clone() else {
            return false;
        };
        let threads = Arc::clone(self);
        let name = format!("fanbus-handler-{}", inside.threads + 1);
        let started = thread::Builder::new()
            .name(name)
            .spawn(move || threads.live(&user_code));
        if let Err(error) = started {
            log::error!("cannot start a thread for handlers: {error}");
            return false;
        }
        inside.threads += 1;
        true
    }

    /// A thread's life. It stays attached to Python as long as there is work.
    fn live(&self, user_code: &UserCode) {
        // The interpreter may be ending: then there is nothing left to do.
        Python::try_attach(|py| {
            let member = self.enter();
            let mut comes = true;
            loop {
                if let Some(job) = self.take(&member, comes) {
                    comes = false;
                    (user_code.run)(py, job);
                    self.give_way(py, user_code);
                    continue;
                }
                if !py.detach(|| self.rest()) {
                    return;
                }
                comes = true;
            }
        });
    }

    fn enter(&self) -> Member<'_> {
        let clock = CpuClock::of_this_thread();
        let key = self.lock().clocks.insert(Watched {
            clock,
            cpu: clock.read(),
            has_worked: false,
            is_at_work: false,
        });
        Member { threads: self, key }
    }

    /// The next job of a thread that is at work. None: it is not any more, and has to rest. `comes`: it has
    /// just come, and has the lock.
    fn take(&self, member: &Member<'_>, comes: bool) -> Option<Job> {
        let mut inside = self.lock();
        let inside = &mut *inside;
        if comes {
            inside.coming -= 1;
        }
        let is_allowed = inside.at_work <= inside.sizing.allowed() || inside.stopping;
        let job = if is_allowed {
            inside.queue.pop_front()
        } else {
            None
        };
        inside.ran_dry |= inside.queue.is_empty();
        let watched = &mut inside.clocks[member.key];
        watched.is_at_work = job.is_some();
        watched.has_worked |= job.is_some();
        inside.took_a_job |= job.is_some();
        if job.is_none() {
            inside.at_work -= 1;
        }
        job
    }

    /// Rests until there is work. False: this thread is to end.
    fn rest(&self) -> bool {
        let mut inside = self.lock();
        loop {
            if inside.called > 0 {
                inside.called -= 1;
                return true;
            }
            if inside.stopping {
                inside.threads -= 1;
                return false;
            }
            let waited = self.work.wait_timeout(inside, IDLE);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            inside = guard;
            if timeout.timed_out() && inside.called == 0 && inside.threads > 1 {
                inside.threads -= 1;
                return false;
            }
        }
    }

    /// Between two jobs: the event loop, which may have waited for the lock as long as the job took, would
    /// else have to wait for the next one, too.
    fn give_way(&self, py: Python<'_>, user_code: &UserCode) {
        if self.side_by_side == 1 && (user_code.loop_wants_lock)() {
            py.detach(|| thread::sleep(GIVE_WAY));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
