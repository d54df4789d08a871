"""Places for workers, and the processes in them. What is here decides nothing: it remembers.

A slot is a listener that stays while processes change. Usually one process serves it. While it is
replaced in order there are more: the next one boots and takes over, the old one finishes its work.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Process", "Slot"]

# A worker that lived longer than this was well: its death is no part of a crash loop.
_WELL_AFTER_S = 10.0
# Deaths in a row that are replaced at once; then each pause is twice the last.
_AT_ONCE = 3
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0

# What is read of the stacks of a process that died.
_MOST_OF_A_TRACE = 64 * 1024


@dataclass(eq=False)
class Process:
    """A worker process, from its fork until it has been waited for.

    All times are of `time.monotonic`, which goes on over an exec.
    """

    pid: int
    generation: int
    """Which reload of the application it runs."""

    report: int | None
    """Reading end of its report: ready or why not, then signs of life. None once it has ended."""

    trace: int
    """A memory file that it writes the stacks of its threads to when it is killed by a fault."""

    started_at: float
    heard_at: float
    """The last sign of life."""

    is_ready: bool = False
    io_is_stuck: bool = False
    """Its Python loop turns, but its I/O thread did not between the last two signs of life."""

    has_stopped_listening: bool = False
    """It has emptied its listener's queue, and closed its copy."""

    failure: bytearray = field(default_factory=bytearray)
    """Why it cannot start."""

    renewal: str | None = None
    """Why it should be replaced while it is well. None: it should not."""

    large_since: float | None = None
    """Since when it has had more memory than it should at each look."""

    end_by: float | None = None
    """It has been told to end, and is killed then."""

    aborted_at: float | None = None
    """It did not answer, and was told to write its stacks and die."""

    @classmethod
    def new(cls, pid: int, generation: int, report: int, trace: int) -> Process:
        """One that has just been started."""
        now = time.monotonic()
        return cls(pid, generation, report, trace, now, now)

    def stacks(self) -> str:
        """What its threads were doing when it was killed by a fault; empty if it was not."""
        return os.pread(self.trace, _MOST_OF_A_TRACE, 0).decode(errors="replace").strip()

    def descriptors(self) -> list[int]:
        """What the supervisor holds of it."""
        return [self.trace] if self.report is None else [self.report, self.trace]

    def close(self) -> None:
        """It has been buried."""
        for descriptor in self.descriptors():
            os.close(descriptor)
        self.report = None

    def to_json(self) -> dict[str, Any]:
        """For the supervisor's next life."""
        return {**vars(self), "failure": self.failure.decode("latin-1")}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Process:
        """What `to_json` gave."""
        return cls(**{**saved, "failure": bytearray(saved["failure"].encode("latin-1"))})


@dataclass(eq=False)
class Slot:
    """One worker's place: its listener stays, its processes change."""

    index: int
    listener: int
    """Its descriptor; -1 once there is none."""

    current: Process | None = None
    """Who serves, or boots to serve."""

    next: Process | None = None
    """Who boots to replace `current`, which serves until then."""

    leaving: list[Process] = field(default_factory=list)
    """Who has been told to end."""

    started_at: float = 0.0
    quick_deaths: int = 0
    """Deaths in a row, each soon after the start."""

    start_at: float | None = None
    """When the next process of this slot may be started. None: no death made it wait."""

    def staying(self) -> list[Process]:
        """Those that have not been told to end."""
        return [one for one in (self.current, self.next) if one is not None]

    def processes(self) -> list[Process]:
        """All of them."""
        return self.staying() + self.leaving

    def stop_listening(self) -> None:
        """Lets go of the listener. A worker's copy may go on."""
        if self.listener >= 0:
            os.close(self.listener)
            self.listener = -1

    def died(self, now: float) -> float:
        """Notes a death; returns the pause before the replacement, in seconds."""
        lived = now - self.started_at
        self.quick_deaths = self.quick_deaths + 1 if lived < _WELL_AFTER_S else 1
        pause = 0.0
        if self.quick_deaths > _AT_ONCE:
            doubled = _FIRST_PAUSE_S * 2 ** min(self.quick_deaths - _AT_ONCE - 1, 16)
            pause = min(doubled, _LONGEST_PAUSE_S)
        self.start_at = now + pause
        return pause

    def to_json(self) -> dict[str, Any]:
        """For the supervisor's next life."""
        return {
            **vars(self),
            "current": self.current and self.current.to_json(),
            "next": self.next and self.next.to_json(),
            "leaving": [process.to_json() for process in self.leaving],
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Slot:
        """What `to_json` gave."""
        current, following = saved["current"], saved["next"]
        return cls(
            **{
                **saved,
                "current": current and Process.from_json(current),
                "next": following and Process.from_json(following),
                "leaving": [Process.from_json(process) for process in saved["leaving"]],
            }
        )
