//! The footprint that counts the memory of a server's processes together, whatever else runs on the
//! machine.
//!
//! RSS counts shared pages of forked processes once in each process. PSS divides them among all
//! processes that share them, and these may be unrelated: the load client runs the same Python.
//! Neither includes memory that a server has reserved in /dev/shm but not touched yet.
//!
//! So the footprint divides anonymous memory among the processes that share it, which are
//! relatives. The pages of a file count once, with the number of the process that has the most of
//! them. A file in /dev/shm counts with its whole size.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The folder of named shared memory.
const SHARED: &str = "/dev/shm/";
/// Paths of mappings that are memory and not files.
const NO_FILES: [&str; 3] = ["/memfd:", "/dev/zero", "/SYSV"];

/// The memory of some processes.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// Anonymous memory, and shared memory without a name in /dev/shm.
    anonymous_kib: u64,
    /// By file: the KiB of the process that has the most of it.
    files_kib: BTreeMap<String, u64>,
    /// Files in /dev/shm.
    shared: BTreeSet<String>,
}

impl Footprint {
    /// Adds a process, given its `smaps_rollup` and its `smaps` in /proc.
    pub(super) fn add(&mut self, rollup: &str, smaps: &str) {
        let mut named_kib = 0;
        let mut files: BTreeMap<&str, u64> = BTreeMap::new();
        for mapping in mappings(smaps) {
            if mapping.path.starts_with(SHARED) {
                named_kib += mapping.pss_kib;
                self.shared.insert(mapping.path.into());
            } else if mapping.is_file() {
                *files.entry(mapping.path).or_default() += mapping.rss_kib - mapping.anonymous_kib;
            }
        }
        for (path, kib) in files {
            let most = self.files_kib.entry(path.into()).or_default();
            *most = kib.max(*most);
        }
        let anonymous = field_kib(rollup, "Pss_Anon:") + field_kib(rollup, "Pss_Shmem:");
        self.anonymous_kib += anonymous.saturating_sub(named_kib);
    }

    /// The whole footprint. `reserved` returns the KiB of a file in /dev/shm.
    pub(super) fn kib(&self, reserved: impl Fn(&str) -> u64) -> u64 {
        let files: u64 = self.files_kib.values().sum();
        let shared: u64 = self.shared.iter().map(|path| reserved(path)).sum();
        self.anonymous_kib + files + shared
    }
}

/// The allocated KiB of a file, whether written or only reserved.
pub(super) fn reserved_kib(path: &str) -> u64 {
    fs::metadata(Path::new(path)).map_or(0, |file| file.blocks() / 2)
}

/// A field of `smaps` or `smaps_rollup`.
pub(super) fn field_kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[derive(Debug, Default)]
struct Mapping<'a> {
    path: &'a str,
    rss_kib: u64,
    pss_kib: u64,
    anonymous_kib: u64,
}

impl Mapping<'_> {
    fn is_file(&self) -> bool {
        self.path.starts_with('/') && !NO_FILES.iter().any(|name| self.path.starts_with(name))
    }
}

fn mappings(smaps: &str) -> Vec<Mapping<'_>> {
    let mut found: Vec<Mapping<'_>> = Vec::new();
    for line in smaps.lines() {
        let name = line.split_whitespace().next().unwrap_or("");
        if !name.ends_with(':') {
            // Addresses, permissions, offset, device, inode, path.
            let path = line.splitn(6, ' ').nth(5).map_or("", str::trim);
            found.push(Mapping {
                path,
                ..Mapping::default()
            });
        } else if let Some(last) = found.last_mut() {
            match name {
                "Rss:" => last.rss_kib = field_kib(line, name),
                "Pss:" => last.pss_kib = field_kib(line, name),
                "Anonymous:" => last.anonymous_kib = field_kib(line, name),
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smaps(mappings: &[(&str, u64, u64, u64)]) -> String {
        let lines = mappings.iter().map(|(path, rss, pss, anonymous)| {
            format!(
                "7f00-7f10 r--p 00000000 08:01 42          {path}\nSize:  9 kB\nRss:   {rss} kB\n\
                 Pss:  {pss} kB\nAnonymous:  {anonymous} kB\nVmFlags: rd mr\n"
            )
        });
        lines.collect()
    }

    #[test]
    fn what_relatives_share_counts_once_and_what_is_reserved_counts_whole() {
        let mut footprint = Footprint::default();
        let bus = ("/dev/shm/fanbus.chat", 300, 200, 0);
        footprint.add(
            "Rss: 9 kB\nPss_Anon: 1000 kB\nPss_Shmem: 250 kB\n",
            &smaps(&[
                ("/usr/lib/a b.so", 400, 3, 100),
                ("/usr/lib/a b.so", 50, 3, 0),
                ("", 900, 900, 900),
                ("[heap]", 100, 100, 100),
                bus,
                ("/memfd:traces (deleted)", 50, 50, 0),
            ]),
        );
        footprint.add(
            "Pss_Anon: 2000 kB\nPss_Shmem: 200 kB\n",
            &smaps(&[("/usr/lib/a b.so", 500, 1, 0), bus]),
        );
        let reserved = |path: &str| {
            assert_eq!(path, bus.0);
            5000
        };
        assert_eq!(footprint.kib(reserved), 1000 + 50 + 2000 + 500 + 5000);
    }

    #[test]
    fn a_process_has_what_it_has_touched() {
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).expect("Linux");
        let kib = || {
            let mut footprint = Footprint::default();
            footprint.add(&read("smaps_rollup"), &read("smaps"));
            footprint.kib(reserved_kib)
        };
        let before = kib();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        assert!(kib() >= before + (60 << 10), "{}", touched.len());
    }
}
