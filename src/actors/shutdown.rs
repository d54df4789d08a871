//! One signal, remembered: whoever asks later learns of it too.

use std::time::Duration;

use tokio::sync::watch;

/// Pulls the signal. Owned by whoever may end the worker.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Option<Duration>>);

/// Waits for the signal. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Option<Duration>>);

/// A signal and its first listener.
pub fn signal() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(None);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Begins the end: what is in flight has `grace` to finish. Only the first call counts.
    pub fn pull(&self, grace: Duration) {
        self.0.send_if_modified(|state| {
            let first = state.is_none();
            if first {
                *state = Some(grace);
            }
            first
        });
    }
}

impl Shutdown {
    /// Resolves when the signal has come, with the time that is left to finish in. Never resolves
    /// when the trigger was dropped without a pull.
    pub async fn wait(&mut self) -> Duration {
        match self.0.wait_for(Option::is_some).await {
            Ok(grace) => grace.expect("wait_for returns only when a grace time is set"),
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
    async fn a_late_listener_learns_of_it_and_the_first_grace_time_counts() {
        let (trigger, shutdown) = signal();
        assert!(!shutdown.is_triggered());
        trigger.pull(Duration::from_secs(3));
        trigger.pull(Duration::from_secs(9));
        let mut late = shutdown.clone();
        assert_eq!(late.wait().await, Duration::from_secs(3));
        assert!(shutdown.is_triggered());
    }
}
