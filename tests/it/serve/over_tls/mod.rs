//! The tests of one worker once more, over TLS: what they say of clients and limits holds there too.

#![allow(clippy::duplicate_mod, reason = "the same files are what this is for")]

#[path = "../closing.rs"]
mod closing;
#[path = "../compression.rs"]
mod compression;
#[path = "../early_hints.rs"]
mod early_hints;
#[path = "../events.rs"]
mod events;
#[path = "../http.rs"]
mod http;
#[path = "../limits.rs"]
mod limits;
#[path = "../messages.rs"]
mod messages;
#[path = "../opening.rs"]
mod opening;
#[path = "../pipelining.rs"]
mod pipelining;
#[path = "../pressure.rs"]
mod pressure;
#[path = "../shutdown.rs"]
mod shutdown;
#[path = "../stalled.rs"]
mod stalled;
#[path = "../totals.rs"]
mod totals;
#[path = "../trailers.rs"]
mod trailers;

use crate::support::certificates;
use crate::support::worker::Setup;

/// The usual worker of these tests, with TLS.
fn setup() -> Setup {
    Setup {
        tls: Some(certificates::tls()),
        ..Setup::default()
    }
}
