//! The state that the lanes of one worker share, and the jobs that their threads do.

use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use tokio::sync::Notify;

use crate::actors::session_key::SessionKey;
use crate::http::handler::Call;
use crate::http::replies::ReplyKey;

/// Work for a thread.
pub(super) enum Job {
    /// Answer a request.
    Request { call: Call, reply: ReplyKey },
    /// Decide whether the client of a turbo route is admitted.
    Admit { call: Call, session: SessionKey },
    /// Call a function.
    Call(Py<PyAny>),
}

/// The functions of the worker that a thread of a lane calls.
pub(super) struct UserCode {
    /// Does a job, attached to Python.
    pub run: Box<dyn Fn(Python<'_>, Job) + Send + Sync>,
    /// Does the event loop want to run?
    pub loop_wants_lock: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The state that all lanes of a worker share.
pub(super) struct LaneContext {
    /// Threads that can run Python at the same time.
    pub side_by_side: usize,
    user_code: Mutex<Option<Arc<UserCode>>>,
    /// Wakes the I/O thread when jobs wait.
    wanted: Notify,
    /// The I/O thread looks after the threads, or will in a moment.
    is_watched: AtomicBool,
    /// The I/O thread has ended.
    has_no_watcher: AtomicBool,
}

impl LaneContext {
    pub(super) fn new(side_by_side: usize) -> Self {
        Self {
            side_by_side,
            user_code: Mutex::default(),
            wanted: Notify::new(),
            is_watched: AtomicBool::new(false),
            has_no_watcher: AtomicBool::new(false),
        }
    }

    /// Makes the I/O thread look after the threads, if it does not yet.
    pub(super) fn request_looks(&self) {
        if !self.is_watched.swap(true, SeqCst) {
            self.wanted.notify_one();
        }
    }

    /// I/O thread: waits until a lane requests looks.
    pub(super) async fn looks_requested(&self) {
        self.wanted.notified().await;
    }

    /// I/O thread: looks go on, or end.
    pub(super) fn set_watched(&self, is_watched: bool) {
        self.is_watched.store(is_watched, SeqCst);
    }

    /// The functions for jobs. None before the start, and at the end.
    pub(super) fn user_code(&self) -> Option<Arc<UserCode>> {
        self.lock_user_code().clone()
    }

    /// Sets the functions for jobs; returns those before, to be dropped where Python's lock is held.
    pub(super) fn set_user_code(&self, user_code: Option<UserCode>) -> Option<Arc<UserCode>> {
        std::mem::replace(&mut *self.lock_user_code(), user_code.map(Arc::new))
    }

    fn lock_user_code(&self) -> std::sync::MutexGuard<'_, Option<Arc<UserCode>>> {
        self.user_code
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The I/O thread has ended: nothing limits the number of threads any more.
    pub(super) fn lift_limits(&self) {
        self.has_no_watcher.store(true, Relaxed);
    }

    pub(super) fn has_limits(&self) -> bool {
        !self.has_no_watcher.load(Relaxed)
    }
}
