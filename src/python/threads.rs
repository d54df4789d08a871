//! Python threads for synchronous handlers. As many do the work as Python lets run side by side: one,
//! because a second thread that wants the GIL slows the first one down; one per core without a GIL.
//! More are added only when the head of the queue has waited: then all others are blocked.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::actors::session::SessionKey;
use crate::http::handler::Call;
use crate::http::replies::ReplyKey;

/// Work for a synchronous handler.
pub(super) enum Job {
    /// Answer a request.
    Request { call: Call, reply: ReplyKey },
    /// Say whether the client of a turbo route may come in.
    Admit { call: Call, session: SessionKey },
}

/// The head of the queue may wait this long before another thread is started.
pub(super) const STUCK: Duration = Duration::from_millis(5);

/// An idle thread beyond the first ends after this time.
const IDLE: Duration = Duration::from_secs(30);

/// Jobs that may wait before the worker calls itself full.
const MOST_JOBS: usize = 4096;

/// See the module's documentation.
pub(super) struct Threads {
    inside: Mutex<Inside>,
    work: Condvar,
    most: usize,
    /// So many are started and woken as soon as there is work for them. At least 1, at most `most`.
    side_by_side: usize,
}

struct Inside {
    queue: VecDeque<Job>,
    /// When a thread last took a job, or the queue began to wait.
    last_taken: Instant,
    threads: usize,
    idle: usize,
    stopping: bool,
    run: Option<Arc<Runner>>,
}

/// A thread that is counted: one that dies of a panic is not, so that another takes its place.
struct Counted<'a>(&'a Threads);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().threads -= 1;
        }
    }
}

/// Does a job, attached to Python. Set when the worker starts.
pub(super) type Runner = dyn Fn(Python<'_>, Job) + Send + Sync;

impl Threads {
    /// At most so many threads, of which so many can run Python at the same time.
    pub(super) fn new(most: usize, side_by_side: usize) -> Arc<Self> {
        let inside = Inside {
            queue: VecDeque::new(),
            last_taken: Instant::now(),
            threads: 0,
            idle: 0,
            stopping: false,
            run: None,
        };
        let most = most.max(1);
        Arc::new(Self {
            inside: Mutex::new(inside),
            work: Condvar::new(),
            most,
            side_by_side: side_by_side.clamp(1, most),
        })
    }

    /// What jobs are done with.
    pub(super) fn run_with(&self, run: Arc<Runner>) {
        self.lock().run = Some(run);
    }

    /// May more work be taken in?
    pub(super) fn has_room(&self) -> bool {
        self.lock().queue.len() < MOST_JOBS
    }

    /// I/O thread: queues `jobs`, and wakes or starts the threads that can do them side by side.
    pub(super) fn post(self: &Arc<Self>, jobs: &mut Vec<Job>) {
        let mut inside = self.lock();
        if inside.queue.is_empty() {
            inside.last_taken = Instant::now();
        }
        inside.queue.extend(jobs.drain(..));
        let wanted = inside.queue.len().min(self.side_by_side);
        for _ in 0..wanted.min(inside.idle) {
            self.work.notify_one();
        }
        let missing = wanted.saturating_sub(inside.idle);
        for _ in 0..missing.min(self.side_by_side.saturating_sub(inside.threads)) {
            self.start_thread(&mut inside);
        }
    }

    /// I/O thread, while jobs wait: when some wait and no thread has taken one for a while,
    /// all threads are blocked in handlers, so another one starts for each job that waits.
    pub(super) fn grow_if_stuck(self: &Arc<Self>) {
        let mut inside = self.lock();
        if inside.queue.is_empty() || inside.last_taken.elapsed() < STUCK {
            return;
        }
        if inside.idle > 0 {
            self.work.notify_all();
        }
        let missing = inside.queue.len().saturating_sub(inside.idle);
        for _ in 0..missing.min(self.most.saturating_sub(inside.threads)) {
            self.start_thread(&mut inside);
        }
        inside.last_taken = Instant::now();
    }

    /// Do jobs wait?
    pub(super) fn has_waiting(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// Does a job wait, or is one being done?
    pub(super) fn are_busy(&self) -> bool {
        let inside = self.lock();
        !inside.queue.is_empty() || inside.threads > inside.idle
    }

    /// Ends the threads that have nothing to do; the others end with their job.
    pub(super) fn stop(&self) {
        let mut inside = self.lock();
        inside.stopping = true;
        inside.run = None;
        self.work.notify_all();
    }

    fn start_thread(self: &Arc<Self>, inside: &mut Inside) {
        let Some(run) = inside.run.clone() else {
            return;
        };
        let threads = Arc::clone(self);
        let name = format!("fanbus-handler-{}", inside.threads + 1);
        let started = thread::Builder::new()
            .name(name)
            .spawn(move || threads.work(&*run));
        match started {
            Ok(_) => inside.threads += 1,
            Err(error) => log::error!("cannot start a thread for handlers: {error}"),
        }
    }

    /// A thread's life. It stays attached to Python as long as there is work.
    fn work(&self, run: &Runner) {
        let _counted = Counted(self);
        // The interpreter may be ending: then there is nothing left to do.
        Python::try_attach(|py| {
            loop {
                let job = self.take().or_else(|| py.detach(|| self.wait()));
                match job {
                    Some(job) => run(py, job),
                    None => return,
                }
            }
        });
    }

    fn take(&self) -> Option<Job> {
        let mut inside = self.lock();
        let job = inside.queue.pop_front()?;
        inside.last_taken = Instant::now();
        Some(job)
    }

    /// Waits for a job. None: this thread is to end.
    fn wait(&self) -> Option<Job> {
        let mut inside = self.lock();
        loop {
            if let Some(job) = inside.queue.pop_front() {
                inside.last_taken = Instant::now();
                return Some(job);
            }
            if inside.stopping {
                inside.threads -= 1;
                return None;
            }
            inside.idle += 1;
            let waited = self.work.wait_timeout(inside, IDLE);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            inside = guard;
            inside.idle -= 1;
            if timeout.timed_out() && inside.queue.is_empty() && inside.threads > 1 {
                inside.threads -= 1;
                return None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
