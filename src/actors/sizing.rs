//! The sizing that sets how many threads may run user code of one kind side by side: as few as use Python's lock
//! fully.
//!
//! A handler that waits (for a database, say) leaves the lock to others, and more threads bring more answers. A
//! handler that computes holds the lock. Then more threads only make the event loop one of many that want it, each
//! of which has it for 5 ms. From outside both look alike: jobs wait. The CPU time shows the difference. Other
//! threads want the lock as well: the event loop, and threads with jobs of other kinds. The measure is the part of
//! the time that those leave, in which the threads that have jobs are on a CPU.
//!
//! The rule, its limits and the alternatives that were tried: `docs/architecture.md`.

use std::time::Duration;

/// The use of the lock is averaged over about this time.
const MEMORY: Duration = Duration::from_millis(10);

/// Below this use the lock is idle for so long that more threads are worth it.
const IDLE: f64 = 0.3;

/// Above this use fewer threads would do the same. With too few cores for all running threads, those that have the
/// lock are on a CPU for no more of the time.
const BUSY: f64 = 0.6;

/// The use that more threads should lead to.
const WANTED: f64 = 0.5;

/// The lock must be busy for this time before a step down.
const BUSY_FOR: Duration = Duration::from_millis(5);

/// A step down needs this much time in which no job had to wait. The next burst then does not find the threads that
/// the last one needed.
const DRY_FOR: Duration = Duration::from_millis(20);

/// The others are assumed to leave at least this part of the time, however busy they are. Threads that compute get
/// about as much beside one other thread that does. Threads that use far less of it wait for something else.
const FAIR: f64 = 0.5;

/// The observations since the last look.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The time since then.
    pub elapsed: Duration,
    /// CPU time of the threads that had jobs.
    pub own_cpu: Duration,
    /// CPU time of the others that want the lock: the event loop, and threads with jobs of other kinds.
    pub others_cpu: Duration,
    /// The queue was empty at some moment.
    pub ran_dry: bool,
    /// All allowed threads are in a job: none is still on its way to one.
    pub all_at_work: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Sizing {
    /// The least number of threads: those that can run at the same time.
    least: usize,
    most: usize,
    allowed: usize,
    /// CPU time of the threads, as a part of the time of those that can run at the same time, 0 to 1.
    own: f64,
    /// The same part for the others.
    others: f64,
    busy_for: Duration,
    dry_for: Duration,
}

impl Sizing {
    /// Threads of which `side_by_side` can run at the same time, 1 with Python's lock; at most `most`.
    pub fn new(side_by_side: usize, most: usize) -> Self {
        let most = most.max(1);
        let least = side_by_side.clamp(1, most);
        Self {
            least,
            most,
            allowed: least,
            own: 1.0,
            others: 0.0,
            busy_for: Duration::ZERO,
            dry_for: Duration::ZERO,
        }
    }

    /// The number of threads that may have jobs now.
    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// A look, about once in a millisecond while jobs wait. Returns the number of threads that are allowed from now
    /// on.
    pub fn look(&mut self, seen: Seen) -> usize {
        let Seen {
            elapsed,
            own_cpu,
            others_cpu,
            ran_dry,
            all_at_work,
        } = seen;
        if elapsed.is_zero() {
            return self.allowed;
        }
        let weight = 1.0 - (-elapsed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        let share = |cpu: Duration| cpu.as_secs_f64() / elapsed.as_secs_f64() / self.least as f64;
        self.own += weight * (share(own_cpu).min(1.0) - self.own);
        self.others += weight * (share(others_cpu).min(1.0) - self.others);
        let used = self.used();
        self.busy_for = counted(self.busy_for, elapsed, used > BUSY);
        self.dry_for = counted(self.dry_for, elapsed, ran_dry);
        if !ran_dry && all_at_work && used < IDLE {
            self.grow();
        } else if self.busy_for >= BUSY_FOR || self.dry_for >= DRY_FOR {
            self.shrink();
        }
        self.allowed
    }

    /// The part of the time that the others leave in which the threads are on a CPU, 0 to 1.
    fn used(&self) -> f64 {
        self.own / (1.0 - self.others).max(FAIR)
    }

    /// There was no look for a while: no job waited, and no more threads were allowed than can run at the same
    /// time.
    pub fn rested(&mut self) {
        self.own = 1.0;
        self.others = 0.0;
        self.busy_for = Duration::ZERO;
        self.dry_for = Duration::ZERO;
    }

    fn grow(&mut self) {
        let before = self.allowed;
        let wanted = (before as f64 * WANTED / self.used().max(f64::EPSILON)).ceil();
        // A use of nearly 0 would allow all threads, but it may last for a moment only.
        let wanted = wanted.min(2.0 * before as f64) as usize;
        self.allowed = wanted.clamp(before + 1, 2 * before).min(self.most);
        // Until the new threads have run, they are assumed to use as much.
        self.own *= self.allowed as f64 / before as f64;
    }

    fn shrink(&mut self) {
        let fewer = (self.allowed / 8).max(1);
        self.allowed = self.allowed.saturating_sub(fewer).max(self.least);
        self.busy_for = Duration::ZERO;
        self.dry_for = Duration::ZERO;
    }
}

/// The time for which the condition has held by now.
fn counted(so_far: Duration, elapsed: Duration, holds: bool) -> Duration {
    if holds {
        so_far + elapsed
    } else {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(1);

    /// Jobs that wait and compute, for threads that share one lock, millisecond by millisecond.
    struct Load {
        /// The number of jobs at any time; they follow each other.
        clients: usize,
        /// The share of each millisecond that a job wants to compute.
        computes: f64,
        /// The share of each millisecond that the others want.
        others: f64,
    }

    impl Load {
        const WAITING: Load = Load {
            clients: 64,
            computes: 0.01,
            others: 0.0,
        };
        const COMPUTING: Load = Load {
            clients: 4,
            computes: 1.0,
            others: 0.0,
        };

        fn seen(&self, allowed: usize) -> Seen {
            let at_work = allowed.min(self.clients);
            let threads = at_work as f64 * self.computes;
            // If the threads want more than there is, each gets its share.
            let share = 1.0 / (threads + self.others).max(1.0);
            Seen {
                elapsed: LOOK,
                own_cpu: LOOK.mul_f64(threads * share),
                others_cpu: LOOK.mul_f64(self.others * share),
                ran_dry: self.clients <= allowed,
                all_at_work: at_work == allowed,
            }
        }

        fn runs(&self, sizing: &mut Sizing, milliseconds: usize) -> Vec<usize> {
            let look = |_| {
                let seen = self.seen(sizing.allowed());
                sizing.look(seen)
            };
            (0..milliseconds).map(look).collect()
        }
    }

    #[test]
    fn jobs_that_wait_get_as_many_threads_as_there_are_within_sixty_looks() {
        let mut sizing = Sizing::new(1, 40);
        let allowed = Load::WAITING.runs(&mut sizing, 60);
        assert_eq!(allowed[59], 40, "{allowed:?}");
        let doublings = allowed.windows(2).all(|pair| pair[1] <= 2 * pair[0]);
        assert!(doublings, "{allowed:?}");
    }

    #[test]
    fn threads_that_wait_become_more_however_busy_the_others_are() {
        for others in [0.3, 0.6, 1.0, 4.0] {
            // They may even wait for each other.
            let load = Load {
                computes: 0.0,
                others,
                ..Load::WAITING
            };
            let allowed = load.runs(&mut Sizing::new(1, 40), 130);
            assert_eq!(allowed[129], 40, "{others}: {allowed:?}");
            assert!(allowed.is_sorted(), "{others}: {allowed:?}");
        }
    }

    #[test]
    fn jobs_that_compute_beside_others_that_do_get_one_thread() {
        // The event loop, and a thread of another kind.
        for others in [0.1, 0.5, 1.0, 2.0] {
            let load = Load {
                others,
                ..Load::COMPUTING
            };
            let allowed = load.runs(&mut Sizing::new(1, 40), 1000);
            assert!(allowed.iter().all(|&it| it == 1), "{others}: {allowed:?}");
        }
    }

    #[test]
    fn whoever_has_the_lock_for_its_whole_turn_does_not_change_that() {
        let mut sizing = Sizing::new(1, 40);
        for look in 0..1000 {
            // Each of two has it for 5 ms.
            let is_own = look / 5 % 2 == 0;
            let [own, others] = if is_own { [1, 0] } else { [0, 1] };
            let seen = Seen {
                elapsed: LOOK,
                own_cpu: own * LOOK,
                others_cpu: others * LOOK,
                ran_dry: false,
                all_at_work: true,
            };
            assert_eq!(sizing.look(seen), 1, "after {look} looks");
        }
    }

    #[test]
    fn jobs_that_compute_get_one_thread_however_many_wait() {
        for clients in [4, 64] {
            let load = Load {
                clients,
                ..Load::COMPUTING
            };
            let allowed = load.runs(&mut Sizing::new(1, 40), 1000);
            assert!(allowed.iter().all(|&it| it == 1), "{allowed:?}");
        }
    }

    #[test]
    fn threads_that_waiting_jobs_had_are_gone_soon_when_jobs_compute() {
        let mut sizing = Sizing::new(1, 40);
        Load::WAITING.runs(&mut sizing, 100);
        let load = Load {
            clients: 64,
            ..Load::COMPUTING
        };
        let allowed = load.runs(&mut sizing, 150);
        assert_eq!(allowed[149], 1, "{allowed:?}");
        assert!(
            allowed.windows(2).all(|pair| pair[1] <= pair[0]),
            "{allowed:?}"
        );
    }

    #[test]
    fn jobs_that_do_both_get_as_many_as_keep_the_lock_busy() {
        let load = Load {
            clients: 64,
            computes: 0.1,
            others: 0.0,
        };
        let allowed = load.runs(&mut Sizing::new(1, 40), 300);
        let settled = &allowed[200..];
        assert!(settled.iter().all(|it| (3..=8).contains(it)), "{allowed:?}");
    }

    #[test]
    fn beside_a_busy_event_loop_there_are_as_many_as_use_their_part() {
        let load = Load {
            others: 0.95,
            ..Load::WAITING
        };
        let allowed = load.runs(&mut Sizing::new(1, 40), 300);
        let settled = &allowed[200..];
        assert!(
            settled.iter().all(|it| (10..=40).contains(it)),
            "{allowed:?}"
        );
    }

    #[test]
    fn a_queue_that_runs_dry_needs_no_more_threads_and_soon_fewer() {
        let mut sizing = Sizing::new(1, 40);
        let few = Load {
            clients: 3,
            ..Load::WAITING
        };
        let allowed = few.runs(&mut sizing, 300);
        assert!(allowed.iter().all(|&it| it <= 3 * 2), "{allowed:?}");
        Load::WAITING.runs(&mut sizing, 100);
        assert_eq!(sizing.allowed(), 40);
        let nobody = Load {
            clients: 0,
            computes: 0.0,
            others: 0.0,
        };
        let allowed = nobody.runs(&mut sizing, 800);
        assert_eq!(allowed[799], 1, "{allowed:?}");
    }

    #[test]
    fn nobody_is_added_while_others_are_still_on_their_way() {
        let mut sizing = Sizing::new(1, 40);
        for _ in 0..100 {
            let seen = Seen {
                all_at_work: false,
                ..Load::WAITING.seen(1)
            };
            assert_eq!(sizing.look(seen), 1);
        }
    }

    #[test]
    fn without_the_lock_there_are_as_many_as_cores_and_their_use_is_shared() {
        let mut sizing = Sizing::new(4, 40);
        assert_eq!(sizing.allowed(), 4);
        for _ in 0..100 {
            // Two of four cores are in use: the handlers wait for half of their time.
            let seen = Seen {
                own_cpu: 2 * LOOK,
                ..Load::WAITING.seen(1)
            };
            assert_eq!(sizing.look(seen), 4);
        }
        for _ in 0..100 {
            let seen = Seen {
                own_cpu: LOOK / 2,
                ..Load::WAITING.seen(1)
            };
            sizing.look(seen);
        }
        assert_eq!(sizing.allowed(), 40);
    }

    #[test]
    fn never_more_than_are_allowed_and_at_least_one() {
        let mut sizing = Sizing::new(8, 2);
        assert_eq!(sizing.allowed(), 2);
        Load::WAITING.runs(&mut sizing, 100);
        assert_eq!(sizing.allowed(), 2);
        assert_eq!(Sizing::new(1, 0).allowed(), 1);
    }

    #[test]
    fn after_a_rest_a_moment_of_waiting_proves_nothing() {
        let mut sizing = Sizing::new(1, 40);
        Load::WAITING.runs(&mut sizing, 3);
        sizing.rested();
        let allowed = Load::WAITING.runs(&mut sizing, 3);
        assert_eq!(allowed, [1, 1, 1]);
    }
}
