//! Why there is no figure, in sentences that say what to do.

use std::io;

/// What keeps a measurement from being made. What a server does wrong in one is counted instead.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Who watches wants no more of it, because of Ctrl+C for instance.
    #[error("Interrupted.")]
    Interrupted,
    /// An option, or options that do not go together.
    #[error("{0}")]
    Option(String),
    /// This machine does not allow what was asked for.
    #[error("{0}")]
    Limit(String),
    /// The server is not there, or is not what the mode needs.
    #[error("{0}")]
    Server(String),
    /// A call that never fails did.
    #[error("{what}: {error}.")]
    System {
        /// What was done.
        what: &'static str,
        /// What the kernel said.
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

/// What most of the engine returns.
pub(super) type Outcome<T> = Result<T, BenchError>;
