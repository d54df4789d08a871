//! The limits that a machine has for connections: open files and source ports.

use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::error::{BenchError, Outcome};

/// Open files that are not connections: the standard ones, epoll, files that Python has open.
const OTHER_FILES: u64 = 64;

/// The number of source ports that Linux has by default: 32768 to 60999.
const USUAL_PORTS: usize = 28_232;

/// Ensures that this many sockets may be open. Raises the limit as far as the process may raise it.
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

/// Raises the limit as far as the process may raise it, for a server that cannot know the number of
/// its connections.
pub(super) fn allow_most_sockets() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

/// The number of source ports of one local address.
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
