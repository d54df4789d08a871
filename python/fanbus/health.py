"""When a worker has done enough, and what it takes of the memory."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fanbus.config import Settings
    from fanbus.slots import Process

__all__ = ["outlived", "own_memory"]

_SIZES = re.compile(r"^(VmRSS|RssShmem):\s+(\d+) kB$", re.MULTILINE)


def outlived(process: Process, settings: Settings, now: float) -> str | None:
    """Why a worker that is well should be replaced; None if it should not."""
    lifetime = settings.workers_lifetime
    if lifetime is not None:
        # The same for a process each time it is asked for, so that it can be compared with.
        more = random.Random(process.pid).random() * settings.workers_lifetime_jitter  # noqa: S311
        if now - process.started_at >= lifetime + more:
            return f"has lived for {now - process.started_at:.0f} s"
    if settings.workers_max_rss is not None:
        memory = own_memory(process.pid)
        if memory > settings.workers_max_rss:
            return f"has {memory // 2**20} MiB of memory"
    return None


def own_memory(pid: int) -> int:
    """Resident bytes of a process, without the memory that it shares with others, such as the bus.
    0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    sizes = {name: int(kilobytes) * 1024 for name, kilobytes in _SIZES.findall(status)}
    return max(0, sizes.get("VmRSS", 0) - sizes.get("RssShmem", 0))
