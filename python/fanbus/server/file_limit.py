"""The limit of open files, and so of connections, of a process."""

from __future__ import annotations

import resource

__all__ = ["connections", "raise_limit"]

# Descriptors of a worker beside connections: listener, bus, event loops, files that it sends.
_RESERVED = 128
# Limits of `src/http/config.rs`: connections that speak HTTP, and WebSockets.
_MOST_CONNECTIONS = 16_384 + 65_536
# No worker can use more, and some programs make tables as large as the limit.
_ENOUGH = 1_048_576


def raise_limit() -> int:
    """Raises the soft limit of this process and of its workers to the hard one; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return _ENOUGH if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # a sandbox may forbid it
        return soft
    return most


def connections(limit: int) -> int:
    """The number of connections that a worker with this limit can have."""
    return max(0, min(limit - _RESERVED, _MOST_CONNECTIONS))
