//! Whole workers on real sockets, without Python: what a client sees of a server, and what a bad
//! client can do to it and to others.

mod closing;
mod compression;
mod early_hints;
mod events;
mod http;
mod limits;
mod messages;
mod opening;
mod over_tls;
mod pace;
mod pipelining;
mod pressure;
mod protocols;
mod second_opinion;
mod shutdown;
mod stalled;
mod subscribing;
mod tls;
mod totals;
mod trailers;
mod watching;
mod workers;

use crate::support::worker::Setup;

/// The usual worker of these tests: on plain TCP.
fn setup() -> Setup {
    Setup::default()
}
