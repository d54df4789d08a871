"""The reaper that collects ended children which this process did not start.

They are orphans of the application's processes. PID 1 of a container inherits and must reap them.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

__all__ = ["Reaper"]


class Reaper:
    """Reaps orphans, but not the processes that the application started before `run`."""

    def __init__(self, known: Collection[int]) -> None:
        """`known` are the children that this process started."""
        self._not_ours = set(_children()) - set(known)

    def reap(self, known: Collection[int]) -> None:
        """Collects the orphans that have ended."""
        for pid in _children():
            if pid not in known and pid not in self._not_ours:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    continue


def _children() -> list[int]:
    """The children of this process, zombies too. Empty if the kernel does not list them."""
    found: list[int] = []
    try:
        for task in Path("/proc/self/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:
        return found
    return found
