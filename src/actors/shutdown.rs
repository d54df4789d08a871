//! The signal that ends a worker. It stays set: later listeners see it too.

use std::time::Duration;

use tokio::sync::watch;

/// The manner in which a worker ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ending {
    /// The time in which requests and sessions in flight must finish.
    pub grace: Duration,
    /// A connection without a running request stays open for this time, at most half of `grace`.
    pub linger: Duration,
}

/// Pulls the signal. Its owner is the code that may end the worker.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Option<Ending>>);

/// Waits for the signal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Option<Ending>>);

/// A signal and its first listener.
pub fn signal() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(None);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Begins the end. Only the first call counts.
    pub fn pull(&self, ending: Ending) {
        self.0.send_if_modified(|state| {
            let first = state.is_none();
            if first {
                *state = Some(ending);
            }
            first
        });
    }
}

impl Shutdown {
    /// Resolves when the signal has come. Never resolves when the trigger was dropped without a pull.
    pub async fn wait(&mut self) -> Ending {
        match self.0.wait_for(Option::is_some).await {
            Ok(ending) => ending.expect("wait_for returns only when it is set"),
            Err(_) => std::future::pending().await,
        }
    }

    /// Has the signal come?
    pub fn is_triggered(&self) -> bool {
        self.0.borrow().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_listener_learns_of_it_and_the_first_call_counts() {
        let (trigger, shutdown) = signal();
        assert!(!shutdown.is_triggered());
        let within = |seconds| Ending {
            grace: Duration::from_secs(seconds),
            linger: Duration::ZERO,
        };
        trigger.pull(within(3));
        trigger.pull(within(9));
        let mut late = shutdown.clone();
        assert_eq!(late.wait().await, within(3));
        assert!(shutdown.is_triggered());
    }
}
