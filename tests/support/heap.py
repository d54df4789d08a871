"""What a server holds of its heap: for tests, and for their applications.

glibc's allocator counts for both halves, Rust and Python, in a server that is told to take every
object from it, and to keep no caches. Other than the size of a process, that does not depend on
which pages a few long-lived objects happen to lie in.
"""

from __future__ import annotations

import ctypes

from support.paths import TESTS

ONE_ALLOCATOR = {
    "PYTHONMALLOC": "malloc",
    "MALLOC_ARENA_MAX": "1",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
    "FANBUS_THREADS": "2",  # all of them soon are there
    "PYTHONPATH": str(TESTS),  # where applications find this
}
"""The environment of such a server."""


class _Mallinfo2(ctypes.Structure):
    """glibc's `struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def live_bytes() -> int:
    """What this process has taken and not given back."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    found = mallinfo2()
    return int(found.uordblks + found.hblkhd)
