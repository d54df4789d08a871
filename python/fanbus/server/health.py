"""Whether workers are well: signs of life, ends in time, age, and what they take of the memory."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fanbus.runtime.logs import logger
from fanbus.server.workers import KILL_AFTER_GRACE_S, Workers

if TYPE_CHECKING:
    from fanbus.config import Settings
    from fanbus.server.slot import Process, Slot

__all__ = ["CHECK_INTERVAL_S", "HealthMonitor", "outlived", "own_memory"]

# How often workers are looked at, at least.
CHECK_INTERVAL_S = 1.0
# The supervisor's loop stood still for longer: it was stopped, and so, likely, were the workers.
_WAS_STOPPED_S = 5.0
# A worker that was told to write its stacks and die has done so by then, or never will.
_ABORT_S = 2.0

# A crowd that has just left is no reason: its memory is given back within a few seconds.
_LARGE_S = 5.0

_SIZES = re.compile(r"^(VmRSS|RssShmem):\s+(\d+) kB$", re.MULTILINE)


class HealthMonitor:
    """Looks after the workers of a workers."""

    def __init__(self, settings: Settings, workers: Workers) -> None:
        self._settings = settings
        self._workers = workers
        self._checked_at = self._aged_at = time.monotonic()

    def check(self, now: float, *, is_ending: bool) -> None:
        """Is called in each turn of the supervisor's loop. While the server ends, nobody needs to
        be well."""
        was_stopped = now - self._checked_at > _WAS_STOPPED_S
        self._checked_at = now
        for process in self._workers.processes():
            if process.end_by is not None and now >= process.end_by:
                process.end_by = now + KILL_AFTER_GRACE_S
                logger.warning("PID %d has not ended in its time, and is killed.", process.pid)
                self._workers.send(process, signal.SIGKILL)
        if is_ending:
            return
        for slot in self._workers.all_slots():
            for one in slot.staying():
                if was_stopped:
                    one.heard_at = now
                self._hears_from(slot, one, now)
        if now - self._aged_at >= CHECK_INTERVAL_S:
            self._aged_at = now
            for slot in self._workers.slots:
                current = slot.current
                if current is not None and current.is_ready and current.renewal is None:
                    current.renewal = outlived(current, self._settings, now)

    def _hears_from(self, slot: Slot, process: Process, now: float) -> None:
        if process.aborted_at is not None:
            if now - process.aborted_at > _ABORT_S:
                self._workers.send(process, signal.SIGKILL)
            return
        settings = self._settings
        limit = settings.timeout_worker if process.is_ready else settings.timeout_worker_boot
        if not limit or now - process.heard_at <= limit:
            return
        if not process.is_ready:
            what = "is not ready"
        elif process.io_is_stuck:
            what = "has not answered: its I/O thread is stuck"
        else:
            what = "has not answered: its event loop is stuck"
        logger.error(
            "Worker %d (PID %d) %s for %g s; ending it.", slot.index, process.pid, what, limit
        )
        process.aborted_at = now
        self._workers.send(process, signal.SIGABRT)  # faulthandler writes the stacks, then it dies


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
        if memory <= settings.workers_max_rss:
            process.large_since = None
        elif process.large_since is None:
            process.large_since = now
        elif now - process.large_since >= _LARGE_S:
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
