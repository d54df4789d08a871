//! A path of one thread, walked again and again between two marks.
//!
//! Callgrind dumps what it has counted of a thread, and begins anew, whenever that thread enters
//! [`mark`]. What lies between two marks is one window of one path; this program prints the windows in
//! their order.

use std::hint::black_box;

/// Windows of one path: they show whether it always takes the same.
const WINDOWS: usize = 3;

/// Walks the paths whose names contain a text.
pub(crate) struct Walk<'a> {
    only: &'a str,
}

/// Callgrind knows this by its name, so the name stays, and so does the call.
#[inline(never)]
fn mark() {
    black_box(());
}

impl Walk<'_> {
    pub(crate) fn new(only: &str) -> Walk<'_> {
        Walk { only }
    }

    /// A path, `count` times in each window, and once before the first, so that tables are made and
    /// buffers have their size.
    #[expect(clippy::print_stdout, reason = "the windows are the output")]
    pub(crate) fn path<R>(&mut self, name: &str, count: usize, mut once: impl FnMut() -> R) {
        if !name.contains(self.only) {
            return;
        }
        black_box(once());
        mark();
        for _ in 0..WINDOWS {
            for _ in 0..count {
                black_box(once());
            }
            mark();
        }
        println!("{name}\t{WINDOWS}\t{count}");
    }
}
