//! Models for loom: the algorithms of the bus, run under every order that C11 allows.
//!
//! `make loom` runs them; no other build has them. The code is the real one over tiny memory: a log
//! of two entries, a ring of one or two records. What a model cannot show is said in
//! `docs/bus.md`, section 11: loom has no loads out of thin air, and tries at most three preemptions
//! in a run.
//!
//! It also looks for races by the *last* access to a word. A publisher reads the word that it swaps, so
//! that a reader which had looked before is not found to race with it. So in these models the
//! publisher comes first, in the model's main thread, and who looks is a thread of its own: it then
//! looks at everything or, since its loads may be old ones, at anything before. Where it matters that
//! both were seen, [`Seen`] counts.

mod log;
mod ring;
mod wake;

use super::sync::{AtomicU64, Ordering, process};

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// How often something came about, over all runs of a model: what never does is not shown either.
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
