"""The slot that holds the listener of a worker while its processes change. It decides nothing.

Usually one process serves a slot. During a replacement there are more: the next one boots and takes
over, and the old one finishes its work.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Process", "Slot"]

# An exit of a worker that ran for longer than this does not count as part of a crash loop.
_STABLE_AFTER_S = 10.0
# Exits in a row that are followed by a start at once; then each pause is twice the last.
_AT_ONCE = 3
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0

# The most bytes that are read of the stacks of a killed process.
_MAX_STACKS = 64 * 1024


@dataclass(eq=False)
class Process:
    """A worker process, from its fork until it has been reaped.

    All times are of `time.monotonic`, which continues over an exec.
    """

    pid: int
    generation: int
    """The reload of the application whose code it runs."""

    report: int | None
    """Reading end of its report: ready or the reason why not, then heartbeats. None once closed."""

    trace: int
    """A memory file for the stacks of its threads, written when a fault kills it."""

    started_at: float
    reported_at: float
    """The time of the last heartbeat."""

    is_ready: bool = False
    io_is_stuck: bool = False
    """Its Python loop turned between the last two heartbeats, but its I/O thread did not."""

    has_stopped_listening: bool = False
    """It has accepted all connections of its listener's queue, and closed its copy."""

    failure: bytearray = field(default_factory=bytearray)
    """The reason why it cannot start."""

    replace_reason: str | None = None
    """Why it should be replaced although it serves. None: it should stay."""

    large_since: float | None = None
    """The first of the checks in a row that found its memory above the limit."""

    kill_at: float | None = None
    """The time at which it is killed, if it has been asked to end."""

    aborted_at: float | None = None
    """The time of the SIGABRT to a process without heartbeats: it writes its stacks and exits."""

    @classmethod
    def new(cls, pid: int, generation: int, report: int, trace: int) -> Process:
        """A process that has just been started."""
        now = time.monotonic()
        return cls(pid, generation, report, trace, now, now)

    def stacks(self) -> str:
        """The stacks of its threads when a fault killed it; empty if none did."""
        return os.pread(self.trace, _MAX_STACKS, 0).decode(errors="replace").strip()

    def descriptors(self) -> list[int]:
        """The descriptors that the supervisor holds for it."""
        return [self.trace] if self.report is None else [self.report, self.trace]

    def close(self) -> None:
        """Closes its descriptors, after it has been reaped."""
        for descriptor in self.descriptors():
            os.close(descriptor)
        self.report = None

    def to_json(self) -> dict[str, Any]:
        """Its state for the re-executed supervisor."""
        return {**vars(self), "failure": self.failure.decode("latin-1")}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Process:
        """The process that `to_json` saved."""
        return cls(**{**saved, "failure": bytearray(saved["failure"].encode("latin-1"))})


@dataclass(eq=False)
class Slot:
    """The place of one worker: its listener stays, its processes change."""

    index: int
    listener: int
    """A descriptor; -1 once it is closed."""

    current: Process | None = None
    """The process that serves, or boots to serve."""

    next: Process | None = None
    """The process that boots to replace `current`, which serves until then."""

    leaving: list[Process] = field(default_factory=list)
    """The processes that have been asked to end."""

    started_at: float = 0.0
    quick_exits: int = 0
    """Exits in a row, each soon after the start."""

    start_at: float | None = None
    """The time from which the next process may be started. None: no exit has caused a pause."""

    def active(self) -> list[Process]:
        """The processes that have not been asked to end."""
        return [one for one in (self.current, self.next) if one is not None]

    def processes(self) -> list[Process]:
        """All processes of the slot."""
        return self.active() + self.leaving

    def stop_listening(self) -> None:
        """Closes the listener. The copy of a worker stays open."""
        if self.listener >= 0:
            os.close(self.listener)
            self.listener = -1

    def note_exit(self, now: float) -> float:
        """Notes the exit of a process. Returns the pause before the replacement, in seconds."""
        ran = now - self.started_at
        self.quick_exits = self.quick_exits + 1 if ran < _STABLE_AFTER_S else 1
        pause = 0.0
        if self.quick_exits > _AT_ONCE:
            doubled = _FIRST_PAUSE_S * 2 ** min(self.quick_exits - _AT_ONCE - 1, 16)
            pause = min(doubled, _LONGEST_PAUSE_S)
        self.start_at = now + pause
        return pause

    def to_json(self) -> dict[str, Any]:
        """Its state for the re-executed supervisor."""
        return {
            **vars(self),
            "current": self.current and self.current.to_json(),
            "next": self.next and self.next.to_json(),
            "leaving": [process.to_json() for process in self.leaving],
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Slot:
        """The slot that `to_json` saved."""
        current, following = saved["current"], saved["next"]
        return cls(
            **{
                **saved,
                "current": current and Process.from_json(current),
                "next": following and Process.from_json(following),
                "leaving": [Process.from_json(process) for process in saved["leaving"]],
            }
        )
