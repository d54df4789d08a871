//! The benchmark of the commit log alone under contention: the cost of a commit, and the number of its attempts, when
//! 1 to 32 producers commit at full rate. `make bench-bus` builds it beside the rest.
//!
//! The log's own file is compiled here a second time, over words that count failed swaps: a counter in the product
//! would be a write without a reader. Producers are threads, not processes: a cache line travels the same way.

#[path = "../../../src/ipc/log.rs"]
#[allow(
    dead_code,
    clippy::cast_possible_wrap,
    reason = "one function of it is wanted, and Fanbus allows these casts"
)]
mod log;
mod sync;

/// The part of the layout that the log's file needs.
mod layout {
    pub(super) const LINE_BYTES: usize = 64;
    pub(super) const MAX_OFFSET: u64 = 1 << 62;
}

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use log::{Log, LogEntry};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use sync::AtomicU64;

const LOG_ENTRIES: usize = 1 << 16;
const EACH: Duration = Duration::from_millis(100);
const ROUNDS: usize = 21;
const PRODUCERS: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// Commits between two checks of the end.
const BETWEEN_LOOKS: u64 = 64;

/// A record of 128 bytes with its header, as a publish writes it before its commit.
const RECORD_BYTES: usize = 256;
const RING_BYTES: usize = 1 << 20;

/// The totals of all producers of a run.
#[derive(Clone, Copy, Default)]
struct Done {
    commits: u64,
    failed_swaps: u64,
    /// Entries of others at the place that a producer wanted.
    walked: u64,
    cpu_ns: u64,
}

impl Done {
    fn plus(self, other: Done) -> Done {
        Done {
            commits: self.commits + other.commits,
            failed_swaps: self.failed_swaps + other.failed_swaps,
            walked: self.walked + other.walked,
            cpu_ns: self.cpu_ns + other.cpu_ns,
        }
    }

    fn per_commit(self, sum: u64) -> f64 {
        sum as f64 / self.commits.max(1) as f64
    }
}

#[expect(clippy::print_stdout, reason = "the table is the output")]
fn main() {
    println!(
        "| producers | writes records too | CPU ns per commit | spread | failed swaps per 1000 \
         | most of a round | walked per commit |"
    );
    println!("|---|---|---|---|---|---|---|");
    for writes in [false, true] {
        for producers in PRODUCERS {
            let mut rounds: Vec<Done> = (0..ROUNDS).map(|_| run(producers, writes)).collect();
            rounds.sort_by(|a, b| a.per_commit(a.cpu_ns).total_cmp(&b.per_commit(b.cpu_ns)));
            let cost = |at: usize| rounds[at].per_commit(rounds[at].cpu_ns);
            let (middle, last) = (rounds[ROUNDS / 2], ROUNDS - 1);
            let failed = |it: &Done| it.per_commit(it.failed_swaps) * 1e3;
            // Other load delays the producers, so the maximum says more than the median.
            let most = rounds.iter().map(failed).fold(0.0, f64::max);
            println!(
                "| {producers} | {} | {:.1} | {:.1} to {:.1} | {:.1} | {most:.1} | {:.1} |",
                if writes { "yes" } else { "no" },
                cost(ROUNDS / 2),
                cost(0),
                cost(last),
                failed(&middle),
                middle.per_commit(middle.walked),
            );
        }
    }
}

/// Runs that many producers at once, for a while.
fn run(producers: usize, writes: bool) -> Done {
    let zeros = std::iter::repeat_with(|| AtomicU64::new(0));
    let memory: Vec<AtomicU64> = zeros.take(LOG_ENTRIES).collect();
    let tail = AtomicU64::new(0);
    let (start, is_over) = (Barrier::new(producers + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let produce = |slot| {
            let (log, start, is_over) = (Log::new(&memory, &tail), &start, &is_over);
            scope.spawn(move || {
                pin(slot);
                start.wait();
                produce(&log, slot as u8, writes, is_over)
            })
        };
        let threads: Vec<_> = (0..producers).map(produce).collect();
        start.wait();
        thread::sleep(EACH);
        is_over.store(true, Ordering::Relaxed);
        let done = threads
            .into_iter()
            .map(|it| it.join().expect("it does not panic"));
        done.fold(Done::default(), Done::plus)
    })
}

/// One CPU after the other, as in the other benchmark: neighbours never share one.
fn pin(number: usize) {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("a thread may ask about itself");
    let cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let cpus: Vec<_> = cpus.collect();
    let mut own = CpuSet::new();
    own.set(cpus[number % cpus.len()]).expect("it was allowed");
    sched_setaffinity(Pid::from_raw(0), &own).expect("it was allowed");
}

fn produce(log: &Log<'_>, slot: u8, writes: bool, is_over: &AtomicBool) -> Done {
    let mut ring = vec![0_u8; RING_BYTES];
    let record = [slot; RECORD_BYTES];
    let mut done = Done::default();
    let mut from = 0;
    let begin_ns = cpu_ns();
    while done.commits % BETWEEN_LOOKS != 0 || !is_over.load(Ordering::Relaxed) {
        let pos = done.commits * RECORD_BYTES as u64;
        if writes {
            let at = pos as usize % RING_BYTES;
            ring[at..at + RECORD_BYTES].copy_from_slice(black_box(&record));
        }
        let entry = LogEntry {
            tag: slot,
            slot,
            pos,
        };
        let at = log.commit(from, entry).expect("a sound log");
        // The first commit walks over old entries, and not against others.
        if done.commits > 0 {
            done.walked += at - from;
        }
        from = at + 1;
        done.commits += 1;
    }
    done.cpu_ns = cpu_ns() - begin_ns;
    done.failed_swaps = sync::failed_swaps();
    black_box(&ring);
    done
}

/// User and system time of this thread.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every Linux has this clock");
    Duration::from(time).as_nanos() as u64
}
