"""The health monitor that checks workers: heartbeats, ends in time, age and memory."""

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

__all__ = ["CHECK_INTERVAL_S", "HealthMonitor", "own_memory", "reason_to_replace"]

# The longest interval between two checks.
CHECK_INTERVAL_S = 1.0
# If the supervisor's loop paused for longer, the machine was suspended or the processes stopped.
_WAS_STOPPED_S = 5.0
# A worker that got SIGABRT has written its stacks after this time, or never will.
_ABORT_S = 2.0

# Memory must stay above the limit this long: after a burst it returns to the system in seconds.
_LARGE_S = 5.0

_SIZES = re.compile(r"^(VmRSS|RssShmem):\s+(\d+) kB$", re.MULTILINE)


class HealthMonitor:
    """Checks the workers of a server."""

    def __init__(self, settings: Settings, workers: Workers) -> None:
        self._settings = settings
        self._workers = workers
        self._checked_at = self._aged_at = time.monotonic()

    def check(self, now: float, *, is_ending: bool) -> None:
        """Checks all workers; called in each turn of the supervisor's loop.

        While the server ends, only the time of their ends is checked.
        """
        was_stopped = now - self._checked_at > _WAS_STOPPED_S
        self._checked_at = now
        for process in self._workers.processes():
            if process.kill_at is not None and now >= process.kill_at:
                process.kill_at = now + KILL_AFTER_GRACE_S
                logger.warning("PID %d has not ended in its time, and is killed.", process.pid)
                self._workers.send(process, signal.SIGKILL)
        if is_ending:
            return
        for slot in self._workers.all_slots():
            for one in slot.active():
                if was_stopped:
                    one.reported_at = now
                self._check_heartbeat(slot, one, now)
        if now - self._aged_at >= CHECK_INTERVAL_S:
            self._aged_at = now
            for slot in self._workers.slots:
                current = slot.current
                if current is not None and current.is_ready and current.replace_reason is None:
                    current.replace_reason = reason_to_replace(current, self._settings, now)

    def _check_heartbeat(self, slot: Slot, process: Process, now: float) -> None:
        if process.aborted_at is not None:
            if now - process.aborted_at > _ABORT_S:
                self._workers.send(process, signal.SIGKILL)
            return
        settings = self._settings
        limit = settings.timeout_worker if process.is_ready else settings.timeout_worker_boot
        if not limit or now - process.reported_at <= limit:
            return
        if not process.is_ready:
            state = "is not ready"
        elif process.io_is_stuck:
            state = "has not answered: its I/O thread is stuck"
        else:
            state = "has not answered: its event loop is stuck"
        logger.error(
            "Worker %d (PID %d) %s for %g s; ending it.", slot.index, process.pid, state, limit
        )
        process.aborted_at = now
        self._workers.send(process, signal.SIGABRT)  # it writes its stacks and exits


def reason_to_replace(process: Process, settings: Settings, now: float) -> str | None:
    """Why a worker that serves should be replaced; None if it should stay."""
    lifetime = settings.workers_lifetime
    if lifetime is not None:
        # The jitter depends on the PID alone, so that each check compares with the same value.
        jitter = random.Random(process.pid).random() * settings.workers_lifetime_jitter  # noqa: S311
        if now - process.started_at >= lifetime + jitter:
            return f"has run for {now - process.started_at:.0f} s"
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
    """Resident bytes of a process without shared memory, such as the bus. 0 if the process is
    gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    sizes = {name: int(kilobytes) * 1024 for name, kilobytes in _SIZES.findall(status)}
    return max(0, sizes.get("VmRSS", 0) - sizes.get("RssShmem", 0))
