//! The models for loom: the algorithms of the bus, run under every order that C11 allows.
//!
//! `make loom` runs them, and no other build has them. The code is the real one over tiny memory: a log of two
//! entries, a ring of one or two records. `docs/bus.md`, section 12, names the limits: loom has no loads out of thin
//! air, and tries at most three preemptions in a run.
//!
//! loom looks for races by the *last* access to a word. A publisher reads the word that it swaps, and so hides a
//! reader that had looked before. So in these models the publisher comes first, in the model's main thread, and the
//! reader is a thread of its own. It then sees everything or, since its loads may be old ones, any earlier state.
//! Where both outcomes matter, [`Seen`] counts them.

mod log;
mod ring;
mod wake;

use super::sync::{AtomicU64, Ordering, process};

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// The number of runs of a model in which something happened. A case that never happens is not shown.
#[derive(Clone, Copy)]
struct Seen(&'static process::AtomicU64);

impl Seen {
    fn new() -> Seen {
        Seen(Box::leak(Box::default()))
    }

    fn note(self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn assert(self, what: &str) {
        assert_ne!(self.0.load(Ordering::Relaxed), 0, "no run in which {what}");
    }
}
