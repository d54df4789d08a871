//! What the tests of a whole worker share: a worker, a handler written in Rust, and a client that
//! speaks to its socket byte by byte.

#![expect(
    unreachable_pub,
    reason = "a test binary exports nothing: `pub` is for the other files"
)]

pub mod certificates;
pub mod client;
pub mod deflate;
pub mod events;
pub mod handler;
pub mod stream;
pub mod worker;

use std::time::{Duration, Instant};

/// How long a test waits for what must come. Never a measure of speed: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds, at most until the deadline.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}
