"""The folder of one sitting: the record of each part, and how busy the machine was before it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.compare.keeping import head

from .parts import Effort, Part, PartError
from .summary import Summary

# How long other programs are watched.
LOOK_S = 1.0
# From this on a line says so: the work of other programs is in every figure.
BUSY = 0.1


@dataclass(frozen=True)
class Sitting:
    """The measurements that one command makes, one after the other, on one machine."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def summary(self) -> Summary:
        """The figures that the pages need."""
        names = ["sitting", *self.record("sitting")["parts"]]
        return Summary.of(self.name, {name: self.record(name) for name in names})

    def record(self, part: str) -> Any:
        return json.loads(self.file(part).read_text())

    def file(self, part: str) -> Path:
        return self.folder / f"{part}.json"

    def measure(self, parts: Iterable[Part], effort: Effort, say: Callable[[str], None]) -> bool:
        """Measures all of them in turn. If one fails, a line says so, and the result is False."""
        parts = list(parts)
        self.folder.mkdir(parents=True, exist_ok=True)
        # The record of the comparison has the versions of all peers.
        system = {**head([], effort.rounds, effort.seconds), "parts": {}}
        left, is_whole = sum(part.minutes for part in parts), True
        for number, part in enumerate(parts, 1):
            begun, busy, load = time.time(), busy_part(LOOK_S), os.getloadavg()
            say(f"{number} of {len(parts)}: {part.name}; about {left:.0f} min left in all")
            if busy > BUSY:
                say(f"  others use {busy:.0%} of this machine")
            failed = None
            since = time.monotonic()
            try:
                part.measure(effort, self.file(part.name))
            except PartError as error:
                failed, is_whole = str(error), False
                say(f"  {part.name} failed: {error}")
            took = time.monotonic() - since
            say(f"  {part.name} took {took:.0f} s")
            system["parts"][part.name] = {
                "begun": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(begun)),
                "seconds": took,
                "busy_before": busy,
                "load_average": load,
                "failed": failed,
            }
            left -= part.minutes
            # At once: a sitting that is interrupted has these parts.
            self.file("sitting").write_text(json.dumps(system, indent=1) + "\n")
        return is_whole


def busy_part(seconds: float) -> float:
    """The part of all CPUs' time that other programs used, while this one slept."""
    before, (busy, whole) = cpu_ticks(), (0, 0)
    time.sleep(seconds)
    busy, whole = (now - then for now, then in zip(cpu_ticks(), before, strict=True))
    return busy / max(1, whole)


def cpu_ticks() -> tuple[int, int]:
    """Those that were used, and all."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle, waiting = ticks[3], ticks[4]
    return sum(ticks) - idle - waiting, sum(ticks)
