//! The threads that run synchronous functions of Python, in lanes: one for each kind of job. Each lane has as many
//! threads as keep Python's lock busy, and no more, as its [`Sizing`](crate::actors::sizing::Sizing) finds out;
//! without the lock at least one per core.
//!
//! While jobs wait in any lane, the I/O thread looks at the CPU time of all threads. Once it has ended, each lane may
//! have its maximum of threads.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tokio::time::sleep;

use super::cpu::ThreadClock;
use super::lane::{Lane, PyLane};
use super::lane_context::{LaneContext, UserCode};
use super::lock as python_lock;

/// The time between two looks at the threads, while jobs wait.
const LOOK: Duration = Duration::from_millis(1);

/// The lanes of one worker.
pub(super) struct Threads {
    lanes: Mutex<Vec<Arc<Lane>>>,
    context: Arc<LaneContext>,
    event_loop: Mutex<Option<ThreadClock>>,
    last_look: Mutex<Instant>,
}

impl Threads {
    /// `side_by_side`: threads that can run Python at the same time.
    pub(super) fn new(side_by_side: usize) -> Arc<Self> {
        Arc::new(Self {
            lanes: Mutex::default(),
            context: Arc::new(LaneContext::new(side_by_side)),
            event_loop: Mutex::default(),
            last_look: Mutex::new(Instant::now()),
        })
    }

    /// Adds a lane of at most `most` threads, which have this name.
    pub(super) fn lane(&self, name: &str, most: usize) -> Arc<Lane> {
        let lane = Lane::new(name, most, Arc::clone(&self.context));
        lock(&self.lanes).push(Arc::clone(&lane));
        lane
    }

    /// Event loop: sets the functions that do jobs. The loop runs on this thread.
    pub(super) fn run_with(&self, user_code: UserCode) {
        *lock(&self.event_loop) = Some(ThreadClock::always_at_work());
        let _before = self.context.set_user_code(Some(user_code));
    }

    /// I/O thread: looks at the threads as long as jobs wait, and until the extra threads are gone.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            self.context.looks_requested().await;
            self.begin_to_look();
            loop {
                sleep(LOOK).await;
                if self.look() {
                    continue;
                }
                self.context.set_watched(false);
                // A job may have come since, whose poster saw that looks go on.
                if !self.lanes().iter().any(|lane| lane.has_waiting()) {
                    break;
                }
                self.context.set_watched(true);
            }
        }
    }

    /// Looks begin, the first one after [`LOOK`].
    fn begin_to_look(&self) {
        *lock(&self.last_look) = Instant::now();
        self.loop_cpu();
        for lane in &*self.lanes() {
            lane.begin_to_look();
        }
    }

    /// Allows more threads or fewer. False: there is no need to look again.
    fn look(&self) -> bool {
        let now = Instant::now();
        let elapsed = now.duration_since(mem::replace(&mut *lock(&self.last_look), now));
        let lanes = self.lanes();
        let spent: Duration = lanes.iter().map(|lane| lane.spend()).sum();
        let all = self.loop_cpu() + spent;
        let look = |again, lane: &Arc<Lane>| lane.look(elapsed, all) || again;
        lanes.iter().fold(false, look)
    }

    /// CPU time of the event loop since the last call.
    fn loop_cpu(&self) -> Duration {
        lock(&self.event_loop)
            .as_mut()
            .map_or(Duration::ZERO, ThreadClock::spent)
    }

    /// Do threads at work share one lock with the event loop?
    pub(super) fn contend_for_lock(&self) -> bool {
        self.context.side_by_side == 1 && self.lanes().iter().any(|lane| lane.is_at_work())
    }

    /// The I/O thread has ended: from now on each lane may have its maximum of threads.
    pub(super) fn lift_limits(&self) {
        self.context.lift_limits();
        for lane in &*self.lanes() {
            lane.lift_limits();
        }
    }

    /// Ends the idle threads; the others end after their job. Waiting jobs are dropped.
    pub(super) fn end(&self, _py: Python<'_>) {
        // Dropped while Python's lock is held, and no lock of this file.
        let _user_code = self.context.set_user_code(None);
        let lanes = mem::take(&mut *self.lanes());
        for lane in lanes {
            drop(lane.end());
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Vec<Arc<Lane>>> {
        lock(&self.lanes)
    }
}

/// The threads of a worker, for Python.
#[pyclass(frozen, name = "Threads", module = "fanbus._core")]
pub(super) struct PyThreads(pub(super) Arc<Threads>);

#[pymethods]
impl PyThreads {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let side_by_side = if python_lock::is_held_by_one(py)? {
            1
        } else {
            thread::available_parallelism().map_or(1, usize::from)
        };
        Ok(Self(Threads::new(side_by_side)))
    }

    /// Adds a lane of at most `most` threads, which are named after it.
    fn lane(&self, name: &str, most: usize) -> PyLane {
        PyLane(self.0.lane(name, most))
    }

    /// Ends the idle threads; the others end after their job. Waiting functions are not called.
    fn end(&self, py: Python<'_>) {
        self.0.end(py);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
