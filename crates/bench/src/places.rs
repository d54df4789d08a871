//! What this machine has for connections: open files and source ports.

use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::error::{BenchError, Outcome};

/// Open files that are no connections: the standard ones, epoll, what Python has open.
const OTHER_FILES: u64 = 64;

/// What Linux has unless it is told otherwise: 32768 to 60999.
const USUAL_PORTS: usize = 28_232;

/// Makes sure that so many sockets may be open, and raises the limit as far as it may be raised.
pub(super) fn allow_sockets(sockets: usize) -> Outcome<()> {
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(BenchError::errno("Reading ulimit -n"))?;
    let needed = sockets as u64 + OTHER_FILES;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(BenchError::Limit(format!(
            "{sockets} connections need {needed} open files, and this process may have {hard}. \
             Raise the limit with `ulimit -n {needed}`, as root, or in /etc/security/limits.conf."
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(BenchError::errno("Raising ulimit -n"))
}

/// Raises the limit as far as it may be raised, for a server that cannot know how many will come.
pub(super) fn allow_most_sockets() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// How many source ports one local address has.
pub(super) fn source_ports() -> usize {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range
        .split_whitespace()
        .filter_map(|bound| bound.parse::<usize>().ok());
    match (bounds.next(), bounds.next()) {
        (Some(first), Some(last)) if last >= first => last - first + 1,
        _ => USUAL_PORTS,
    }
}
