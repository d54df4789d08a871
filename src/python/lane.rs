//! The lane that has jobs of one kind, and the threads that do them in the order of the queue.
//!
//! A thread is *at work* from the moment when it is woken or started until it rests again. As many threads are at work
//! as are allowed, if there are jobs for them. A woken thread takes its job when it has Python's lock, not before: a
//! job must not wait for a thread that waits itself.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use slab::Slab;

use super::cpu::ThreadClock;
use super::lane_context::{Job, LaneContext, UserCode};
use crate::actors::sizing::{Seen, Sizing};

/// An idle thread beyond the first ends after this time.
const IDLE: Duration = Duration::from_secs(30);

/// Jobs that may wait before a lane calls itself full.
const MAX_JOBS: usize = 4096;

/// A thread that has done a job leaves the lock to the event loop for so long, if the loop wants it.
const GIVE_WAY: Duration = Duration::from_micros(20);

/// A queue of jobs, and the threads that do them.
pub(super) struct Lane {
    name: String,
    state: Mutex<State>,
    work: Condvar,
    most: usize,
    context: Arc<LaneContext>,
}

struct State {
    queue: VecDeque<Job>,
    sizing: Sizing,
    /// The number of threads.
    threads: usize,
    /// Threads that are at work.
    at_work: usize,
    /// Threads at work that were woken or started, and have not reached the queue yet.
    coming: usize,
    /// Resting threads that have been called to work.
    called: usize,
    /// The queue was empty at some moment since the last look.
    ran_dry: bool,
    /// The CPU clocks of the threads.
    clocks: Slab<ThreadClock>,
    /// CPU time of the threads between the last two looks.
    spent: Duration,
    stopping: bool,
}

/// Registers a thread as long as it lives.
struct Member<'a> {
    lane: &'a Lane,
    key: usize,
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        let mut state = self.lane.lock();
        state.clocks.remove(self.key);
        if thread::panicking() {
            // It no longer counts, so that another thread takes its place.
            state.threads -= 1;
            state.at_work -= 1;
        }
    }
}

impl Lane {
    /// A lane of at most `most` threads.
    pub(super) fn new(name: &str, most: usize, context: Arc<LaneContext>) -> Arc<Self> {
        let most = most.max(1);
        let state = State {
            queue: VecDeque::new(),
            sizing: Sizing::new(context.side_by_side, most),
            threads: 0,
            at_work: 0,
            coming: 0,
            called: 0,
            ran_dry: true,
            clocks: Slab::new(),
            spent: Duration::ZERO,
            stopping: false,
        };
        Arc::new(Self {
            name: name.to_owned(),
            state: Mutex::new(state),
            work: Condvar::new(),
            most,
            context,
        })
    }

    /// May more work be taken in?
    pub(super) fn has_capacity(&self) -> bool {
        self.lock().queue.len() < MAX_JOBS
    }

    /// Any thread: queues jobs, and wakes or starts threads for them. False: the lane has ended.
    pub(super) fn post(self: &Arc<Self>, jobs: impl IntoIterator<Item = Job>) -> bool {
        let mut state = self.lock();
        if state.stopping {
            return false;
        }
        state.queue.extend(jobs);
        self.call_to_work(&mut state);
        let waits = state.has_waiting();
        drop(state);
        if waits {
            self.context.request_looks();
        }
        true
    }

    /// Do more jobs wait than threads come for, so that the I/O thread has to look?
    pub(super) fn has_waiting(&self) -> bool {
        self.lock().has_waiting()
    }

    /// I/O thread: looks begin.
    pub(super) fn begin_to_look(&self) {
        let mut state = self.lock();
        state.sizing.rested();
        state.spend();
    }

    /// I/O thread: CPU time of the threads since the last look.
    pub(super) fn spend(&self) -> Duration {
        self.lock().spend()
    }

    /// I/O thread, after [`Self::spend`]: allows more threads or fewer. `cpu` is the CPU time of all threads and the
    /// event loop since the last look. False: there is no need to look again.
    pub(super) fn look(self: &Arc<Self>, elapsed: Duration, cpu: Duration) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let seen = Seen {
            elapsed,
            own_cpu: state.spent,
            others_cpu: cpu.saturating_sub(state.spent),
            ran_dry: state.ran_dry,
            all_at_work: state.coming == 0 && state.at_work >= state.sizing.allowed(),
        };
        state.ran_dry = state.queue.is_empty();
        let allowed = state.sizing.look(seen);
        self.call_to_work(state);
        !state.queue.is_empty() || allowed > self.context.side_by_side
    }

    /// Is a thread at work?
    pub(super) fn is_at_work(&self) -> bool {
        self.lock().at_work > 0
    }

    /// Does a job wait, or is one being done?
    pub(super) fn is_busy(&self) -> bool {
        let state = self.lock();
        !state.queue.is_empty() || state.at_work > 0
    }

    /// The I/O thread no longer looks: there may be as many threads as there are jobs.
    pub(super) fn lift_limits(self: &Arc<Self>) {
        self.call_to_work(&mut self.lock());
    }

    /// Ends the idle threads; the others end after their job. Returns the waiting jobs.
    pub(super) fn end(&self) -> VecDeque<Job> {
        let mut state = self.lock();
        state.stopping = true;
        self.work.notify_all();
        mem::take(&mut state.queue)
    }

    fn allowed(&self, state: &State) -> usize {
        if self.context.has_limits() {
            state.sizing.allowed()
        } else {
            self.most
        }
    }

    /// Wakes or starts as many threads as are allowed and have a job.
    fn call_to_work(self: &Arc<Self>, state: &mut State) {
        // Each thread that is on its way takes one job.
        let wanted = state.queue.len().saturating_sub(state.coming);
        let allowed = self.allowed(state).saturating_sub(state.at_work);
        for _ in 0..wanted.min(allowed) {
            let resting = state.threads - state.at_work;
            if resting > 0 {
                state.called += 1;
                self.work.notify_one();
            } else if state.threads >= self.most || !self.start_thread(state) {
                return;
            }
            state.at_work += 1;
            state.coming += 1;
        }
    }

    fn start_thread(self: &Arc<Self>, state: &mut State) -> bool {
        let Some(user_code) = self.context.user_code() else {
            return false;
        };
        let lane = Arc::clone(self);
        let name = format!("fanbus-{}-{}", self.name, state.threads + 1);
        let started = thread::Builder::new()
            .name(name)
            .spawn(move || lane.live(&user_code));
        if let Err(error) = started {
            log::error!("cannot start a thread for a {}: {error}", self.name);
            return false;
        }
        state.threads += 1;
        true
    }

    /// Runs a thread. It stays attached to Python as long as there are jobs.
    fn live(&self, user_code: &UserCode) {
        // The interpreter may be shutting down: then there is nothing to do.
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
        let watched = ThreadClock::this_thread();
        let key = self.lock().clocks.insert(watched);
        Member { lane: self, key }
    }

    /// The next job of a thread at work. None: the thread is no longer at work, and has to rest. `comes`: it has just
    /// reached the queue, with the lock.
    fn take(&self, member: &Member<'_>, comes: bool) -> Option<Job> {
        let mut state = self.lock();
        let state = &mut *state;
        if comes {
            state.coming -= 1;
        }
        let job = if state.at_work <= self.allowed(state) {
            state.queue.pop_front()
        } else {
            None
        };
        state.ran_dry |= state.queue.is_empty();
        state.clocks[member.key].works(job.is_some());
        if job.is_none() {
            state.at_work -= 1;
        }
        job
    }

    /// Rests until there is work. False: this thread is to end.
    fn rest(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.called > 0 {
                state.called -= 1;
                return true;
            }
            if state.stopping {
                state.threads -= 1;
                return false;
            }
            let waited = self.work.wait_timeout(state, IDLE);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if timeout.timed_out() && state.called == 0 && state.threads > 1 {
                state.threads -= 1;
                return false;
            }
        }
    }

    /// Between two jobs: the event loop may have waited for the lock during the whole job, and must not wait for the
    /// next one, too.
    fn give_way(&self, py: Python<'_>, user_code: &UserCode) {
        if self.context.side_by_side == 1 && (user_code.loop_wants_lock)() {
            py.detach(|| thread::sleep(GIVE_WAY));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_waiting(&self) -> bool {
        self.queue.len() > self.coming
    }

    fn spend(&mut self) -> Duration {
        self.spent = self.clocks.iter_mut().map(|(_, it)| it.spent()).sum();
        self.spent
    }
}

/// A lane for Python's functions.
#[pyclass(frozen, name = "Lane", module = "fanbus._core")]
pub(super) struct PyLane(pub(super) Arc<Lane>);

#[pymethods]
impl PyLane {
    /// Calls `call` on a thread of the lane, without arguments, and reports its exception. False: the lane has ended. Any
    /// thread.
    fn post(&self, call: Py<PyAny>) -> bool {
        self.0.post([Job::Call(call)])
    }
}
