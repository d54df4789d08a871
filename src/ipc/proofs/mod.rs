//! Models for loom: the algorithms of the bus, run under every order that C11 allows.
//!
//! `make loom` runs them; no other build has them. The code is the real one over tiny memory: a log
//! of two entries, a ring of one or two records. What a model cannot show is said in
//! `docs/bus.md`, section 11: loom has no loads out of thin air, and tries at most three preemptions
//! in a run.

mod log;
mod ring;
mod wake;

use super::sync::AtomicU64;

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}
