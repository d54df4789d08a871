"""Shared memory that servers leave behind: what is kept for a next start, and what a kill left."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["abandoned_since", "all_of_ours", "remove_of_port"]

_SHARED_MEMORY = Path("/dev/shm")
# Somebody else's tests on the same machine may just be about to remove theirs.
_PATIENCE_S = 10.0


def remove_of_port(port: int) -> None:
    """Of a server that has ended."""
    for segment in _SHARED_MEMORY.glob(f"fanbus.*-{port}"):
        segment.unlink(missing_ok=True)


def all_of_ours() -> list[Path]:
    """Those of this user."""
    found = []
    for segment in _SHARED_MEMORY.glob("fanbus.*"):
        try:
            if segment.stat().st_uid == os.getuid():
                found.append(segment)
        except FileNotFoundError:
            continue
    return found


def abandoned_since(before: list[Path]) -> list[Path]:
    """New ones that stay although no process has them open."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        new = [segment for segment in all_of_ours() if segment not in before]
        in_use = _maps() if new else ""
        abandoned = [segment for segment in new if f" {segment}" not in in_use]
        if not abandoned or time.monotonic() > end:
            return sorted(abandoned)
        time.sleep(0.2)


def _maps() -> str:
    """What all processes of this user have in their memory."""
    texts = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            texts.append((process / "maps").read_text(errors="replace"))
        except OSError:
            continue
    return "".join(texts)
