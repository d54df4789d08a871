//! The processes that a server consists of, with the CPU time and memory that they used, from
//! /proc.

use std::collections::HashMap;
use std::fs;

use super::error::{BenchError, Outcome};
use super::footprint::{Footprint, field_kib, reserved_kib};

/// Ticks per second of the times in /proc: Linux shows this value to user space on every
/// architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process and all its descendants. Without a process, nothing is measured.
#[derive(Copy, Clone, Debug)]
pub(super) struct Processes {
    root: Option<u32>,
}

/// The memory of the processes, in KiB.
#[derive(Copy, Clone, Default, Debug)]
pub(super) struct Memory {
    /// The sum of each process's pages; shared pages count in each.
    pub(super) rss_kib: u64,
    /// The sum of each process's pages; shared pages are divided among the processes that share
    /// them.
    pub(super) pss_kib: u64,
    /// The memory that the processes take together: see [`super::footprint`].
    pub(super) footprint_kib: u64,
    pub(super) processes: u64,
}

impl Processes {
    pub(super) fn new(root: Option<u32>) -> Outcome<Self> {
        if let Some(pid) = root {
            fs::metadata(format!("/proc/{pid}")).map_err(|_| {
                BenchError::Option(format!("There is no process {pid}: see --pid."))
            })?;
        }
        Ok(Self { root })
    }

    /// The user and system time used so far, in seconds. It includes descendants that ended and
    /// were reaped, so the time of a replaced worker is not lost.
    pub(super) fn cpu_s(self) -> Option<f64> {
        let ticks: u64 = self.pids()?.into_iter().filter_map(cpu_ticks).sum();
        Some(ticks as f64 / TICKS_PER_SECOND)
    }

    pub(super) fn memory(self) -> Option<Memory> {
        let (mut memory, mut footprint) = (Memory::default(), Footprint::default());
        for pid in self.pids()? {
            let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}"));
            let (Ok(rollup), Ok(smaps)) = (read("smaps_rollup"), read("smaps")) else {
                continue;
            };
            footprint.add(&rollup, &smaps);
            memory.rss_kib += field_kib(&rollup, "Rss:");
            memory.pss_kib += field_kib(&rollup, "Pss:");
            memory.processes += 1;
        }
        memory.footprint_kib = footprint.kib(reserved_kib);
        Some(memory)
    }

    fn pids(self) -> Option<Vec<u32>> {
        let root = self.root?;
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let parent = pid
                .and_then(stat)
                .and_then(|fields| fields.get(1)?.parse().ok());
            if let (Some(pid), Some(parent)) = (pid, parent) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut pids = vec![root];
        let mut seen = 0;
        while let Some(pid) = pids.get(seen) {
            pids.extend(children.remove(pid).unwrap_or_default());
            seen += 1;
        }
        Some(pids)
    }
}

/// The fields of /proc/PID/stat from the state on, which follows the command in parentheses.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// The sum of utime, stime, cutime and cstime: fields 14 to 17 of proc(5), where the state is field
/// 3.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let fields = stat(pid)?;
    Some(
        fields
            .get(11..15)?
            .iter()
            .filter_map(|field| field.parse::<u64>().ok())
            .sum(),
    )
}
