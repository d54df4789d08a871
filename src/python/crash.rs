//! What ends a worker at once: an I/O thread that cannot go on.
//!
//! Without it the process would live on, hold its place and its clients, and serve nobody. It is
//! aborted instead, and the supervisor replaces it.

use std::sync::Once;
use std::{panic, process, thread};

/// Name of the thread that must not die alone.
pub(super) const IO_THREAD: &str = "fanbus-io";

/// From now on a panic on the I/O thread, wherever it would be caught, ends the process.
pub(super) fn abort_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            tell(info);
            if thread::current().name() == Some(IO_THREAD) {
                process::abort();
            }
        }));
    });
}

/// Says why, and ends the process.
pub(super) fn abort(why: &dyn std::fmt::Display) -> ! {
    eprintln!(
        "fanbus: The I/O thread of worker {} ended: {why}.",
        process::id()
    );
    process::abort();
}
