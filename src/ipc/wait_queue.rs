//! The queue of this process's threads that wait for records.
//!
//! A member has one pipe. The first thread sleeps at that pipe, and passes each wake-up on to the others.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::parker::Parker;

/// Longest sleep. A publisher that died between commit and wake-up, or that cannot reach this process, is noticed
/// after this time.
pub(super) const SAFETY_TICK: Duration = Duration::from_millis(250);

/// The threads of this process that wait.
#[derive(Debug, Default)]
pub(super) struct WaitQueue {
    state: Mutex<QueueState>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    /// Whether a thread sleeps at the pipe.
    has_sleeper: bool,
    /// How often such a thread woke up.
    wakeups: u64,
    /// Whether the bytes of the last wake-up are still in the pipe.
    is_pipe_full: bool,
}

impl WaitQueue {
    /// Sleeps until a wake-up or for `timeout`. May return earlier for no reason. `on_timeout` is called by the
    /// thread at the pipe if no wake-up came.
    pub(super) fn sleep(
        &self,
        parker: &Parker,
        timeout: Duration,
        offset: u64,
        on_timeout: impl FnOnce(),
    ) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.has_sleeper {
            // Checked under the lock: a wake-up after this finds this thread waiting.
            let wakeups = state.wakeups;
            if !parker.has_record_at(offset) {
                let still = |state: &mut QueueState| state.wakeups == wakeups;
                drop(self.woken.wait_timeout_while(state, timeout, still));
            }
            return;
        }
        state.has_sleeper = true;
        let mut is_pipe_full = state.is_pipe_full;
        drop(state);

        if is_pipe_full {
            // Not right after waking up: the thread that was woken has a record to read first.
            parker.clear();
            is_pipe_full = false;
        }
        if parker.park(offset) {
            let millis = timeout.as_millis().max(1) as i32;
            let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(parker.fd(), PollFlags::POLLIN)];
            let woken = poll(&mut fds, timeout);
            parker.unpark();
            is_pipe_full = woken != Ok(0);
            if woken == Ok(0) {
                on_timeout();
            }
        }

        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.has_sleeper = false;
        state.is_pipe_full = is_pipe_full;
        state.wakeups += 1;
        self.woken.notify_all();
    }
}
