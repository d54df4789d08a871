//! The error that says why there are no figures, and what to do about it.

use std::io;

/// An error that prevents a measurement. Faults of a server during a measurement are counted
/// instead.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The watcher ended the measurement, for example because of Ctrl+C.
    #[error("Interrupted.")]
    Interrupted,
    /// An invalid option, or options that contradict each other.
    #[error("{0}")]
    Option(String),
    /// This machine does not allow a requested setting.
    #[error("{0}")]
    Limit(String),
    /// The server is not there, or does not support the mode.
    #[error("{0}")]
    Server(String),
    /// A system call that normally never fails has failed.
    #[error("{what}: {error}.")]
    System {
        /// The action that failed.
        what: &'static str,
        /// The error that the kernel returned.
        error: io::Error,
    },
}

impl BenchError {
    pub(super) fn errno(what: &'static str) -> impl FnOnce(nix::errno::Errno) -> Self {
        move |error| Self::System {
            what,
            error: error.into(),
        }
    }
}

/// The result of most functions of the engine.
pub(super) type Outcome<T> = Result<T, BenchError>;
