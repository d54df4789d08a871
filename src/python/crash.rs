//! The functions that abort a worker whose I/O thread cannot go on.
//!
//! Without its I/O thread the process would keep its slot and its clients, and serve none of them. So it is aborted,
//! and the supervisor replaces it.

use std::sync::Once;
use std::{panic, process, thread};

/// The name of the I/O thread.
pub(super) const IO_THREAD: &str = "fanbus-io";

/// From now on a panic on the I/O thread aborts the process, even if some code would catch it.
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

/// Writes the reason to stderr and aborts the process.
pub(super) fn abort(why: &dyn std::fmt::Display) -> ! {
    eprintln!(
        "fanbus: The I/O thread of worker {} ended: {why}.",
        process::id()
    );
    process::abort();
}
