"""Children that this process did not start: what is left of the application's own.

When their parent is gone, PID 1 of a container inherits them, and nobody else buries them.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

__all__ = ["Reaper"]


class Reaper:
    """Buries orphans, and leaves alone what the application itself started before `run`."""

    def __init__(self, known: Collection[int]) -> None:
        """`known` are this process's own children."""
        self._not_ours = set(_children()) - set(known)

    def reap(self, known: Collection[int]) -> None:
        """Takes note of the end of those who have ended."""
        for pid in _children():
            if pid not in known and pid not in self._not_ours:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    continue


def _children() -> list[int]:
    """The children of this process, zombies too. Empty where the kernel does not tell."""
    found: list[int] = []
    try:
        for task in Path("/proc/self/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        return found
    return found
