//! The heap of a worker process, which retains free memory for the next payload, and returns it to the system
//! later.
//!
//! glibc returns the top of its heap as soon as 128 KiB of it are free. A worker frees payloads in batches, and
//! needs as much memory again for the next batch. Then the kernel has to provide each page again, which took half
//! of the time of a response of 1 MiB. So a worker retains up to 32 MiB, and returns them when it has been idle.
#![allow(unsafe_code)] // The allocator's own functions have no safe names.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

/// Free bytes that the allocator retains at the top of each arena. Larger blocks are mapped and unmapped one by
/// one. This is the largest threshold that glibc takes on 64 bits.
pub const KEPT_BYTES: i32 = 32 << 20;

/// Arenas of a process whose threads take turns: each arena retains free memory of its own.
pub const ARENAS: i32 = 2;

/// True when the allocator, of which a process has one, retains [`KEPT_BYTES`].
static KEEPS: AtomicBool = AtomicBool::new(false);

/// Makes the allocator retain free memory. Call it before the process has threads. `takes_turns`: one thread at a
/// time runs Python, so that two arenas are enough. If the environment has settings of the allocator, they stay in
/// force.
pub fn keep_free_memory(takes_turns: bool) {
    if is_chosen(std::env::vars_os().filter_map(|(name, value)| {
        let value = value.into_string().unwrap_or_default();
        name.into_string().ok().map(|name| (name, value))
    })) {
        return;
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes two numbers, and may be called at any time. A setting that it refuses stays as it is.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, KEPT_BYTES);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, KEPT_BYTES);
        if takes_turns {
            nix::libc::mallopt(nix::libc::M_ARENA_MAX, ARENAS);
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = takes_turns;
    KEEPS.store(cfg!(target_env = "gnu"), Relaxed);
}

/// Does the environment configure the allocator?
fn is_chosen(environment: impl Iterator<Item = (String, String)>) -> bool {
    let mut environment = environment;
    environment.any(|(name, value)| {
        name.starts_with("MALLOC_") || name == "GLIBC_TUNABLES" && value.contains("glibc.malloc.")
    })
}

/// Returns free pages of the allocator to the system. Takes some milliseconds for a large heap, in which other
/// threads may have to wait for memory: not for the I/O thread.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number, and may be called at any time from any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Returns the free memory at the top of the calling thread's arena. [`give_back`] does that for the first arena
/// only, and the I/O thread has another one. Takes as long as it takes to return up to [`KEPT_BYTES`].
pub fn give_back_top() {
    if !KEEPS.load(Relaxed) {
        return;
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: as in `keep_free_memory`. When a large block is freed, the allocator returns the top beyond the
    // threshold.
    unsafe {
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, LARGE_BLOCK);
        drop(black_box(Vec::<u8>::with_capacity(LARGE_BLOCK as usize)));
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// glibc looks at the top of an arena when a block of at least half of this size is freed.
const LARGE_BLOCK: i32 = 128 << 10;

/// The resources that the process has used since it began.
#[derive(Copy, Clone, Debug, Default)]
pub struct Usage {
    /// CPU time of all of its threads.
    pub cpu: Duration,
    /// Pages that the kernel has provided.
    pub faults: u64,
}

impl Usage {
    /// The usage of this process, now. A system call.
    pub fn now() -> Self {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
            return Self::default();
        };
        let duration = |time: nix::sys::time::TimeVal| {
            let micros = time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
            Duration::from_micros(micros)
        };
        Self {
            cpu: duration(usage.user_time()) + duration(usage.system_time()),
            faults: usage.minor_page_faults() as u64,
        }
    }
}

/// The time between two looks at the usage of a process.
pub const LOOK: Duration = Duration::from_secs(1);

/// After so many looks in a row at which a process did next to nothing, it is idle.
const IDLE_LOOKS: u32 = 10;

/// CPU time between two looks of a process that does next to nothing: a tenth of a core.
const IDLE_CPU: Duration = Duration::from_millis(100);

/// Fewer pages, 4 MiB of them, are not worth a walk through the heap.
const WORTH_PAGES: u64 = 1024;

/// Decides when an idle process returns free memory to the system: once, unless it has taken memory since.
#[derive(Debug)]
pub struct IdleWatch {
    last: Usage,
    /// Page faults when memory was last returned.
    faults: u64,
    /// Looks in a row in which the process did next to nothing.
    idle: u32,
}

impl IdleWatch {
    /// Begins with the usage of a process so far.
    pub fn new(now: Usage) -> Self {
        Self {
            last: now,
            faults: now.faults,
            idle: 0,
        }
    }

    /// One look: must memory be returned now?
    pub fn is_time(&mut self, now: Usage) -> bool {
        let is_idle = now.cpu.saturating_sub(self.last.cpu) < IDLE_CPU;
        self.idle = if is_idle { self.idle + 1 } else { 0 };
        self.last = now;
        let is_time = self.idle >= IDLE_LOOKS && now.faults >= self.faults + WORTH_PAGES;
        if is_time {
            self.faults = now.faults;
            self.idle = 0;
        }
        is_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process whose time goes on.
    struct Process {
        now: Usage,
        watch: IdleWatch,
    }

    impl Process {
        fn new() -> Self {
            let now = Usage {
                cpu: Duration::from_secs(7),
                faults: 70_000,
            };
            let watch = IdleWatch::new(now);
            Self { now, watch }
        }

        /// The number of times that memory is returned in `looks` looks, between which the process uses this much.
        fn looks(&mut self, looks: u32, cpu_ms: u64, faults: u64) -> usize {
            let mut times = 0;
            for _ in 0..looks {
                self.now.cpu += Duration::from_millis(cpu_ms);
                self.now.faults += faults;
                times += usize::from(self.watch.is_time(self.now));
            }
            times
        }
    }

    #[test]
    fn an_idle_process_returns_once_what_it_has_taken() {
        let mut process = Process::new();
        assert_eq!(process.looks(100, 1, 0), 0, "it has taken nothing yet");
        assert_eq!(process.looks(20, 900, 100), 0, "it is busy");
        assert_eq!(process.looks(IDLE_LOOKS - 1, 10, 0), 0);
        assert_eq!(process.looks(1, 10, 0), 1);
        assert_eq!(process.looks(1000, 10, 0), 0, "it has taken nothing since");
        assert_eq!(process.looks(2, 900, WORTH_PAGES), 0);
        assert_eq!(process.looks(1000, 10, 0), 1);
    }

    #[test]
    fn a_process_that_works_now_and_then_is_not_idle() {
        let mut process = Process::new();
        for _ in 0..100 {
            assert_eq!(process.looks(1, 300, 5_000), 0);
            assert_eq!(process.looks(IDLE_LOOKS - 1, 0, 0), 0);
        }
    }

    #[test]
    fn settings_of_the_environment_are_left_as_they_are() {
        let chosen = |name: &str, value: &str| {
            is_chosen(
                [("HOME", "/"), (name, value)]
                    .map(|(n, v)| (n.into(), v.into()))
                    .into_iter(),
            )
        };
        assert!(chosen("MALLOC_ARENA_MAX", "4"));
        assert!(chosen("MALLOC_TRIM_THRESHOLD_", "131072"));
        assert!(chosen("GLIBC_TUNABLES", "glibc.malloc.arena_max=4"));
        assert!(!chosen("GLIBC_TUNABLES", "glibc.pthread.rseq=0"));
        assert!(!chosen("PYTHONMALLOC", "malloc"));
    }

    #[test]
    fn a_process_knows_what_it_has_used() {
        let before = Usage::now();
        assert!(before.faults > 0);
        let pages = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(
            Usage::now().faults >= before.faults + 1000,
            "{}",
            pages.len()
        );
    }
}
