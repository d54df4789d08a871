"""A folder with the record of each part, and what the machine was like before each of them."""

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

# How long is looked who else uses the CPUs.
LOOK_S = 1.0
# From this on it is told: others at work are in every figure.
BUSY = 0.1


@dataclass(frozen=True)
class Sitting:
    """What was measured one after the other, on one machine, by one command."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    def record(self, part: str) -> Any:
        return json.loads(self.file(part).read_text())

    def file(self, part: str) -> Path:
        return self.folder / f"{part}.json"

    def measure(self, parts: Iterable[Part], effort: Effort, say: Callable[[str], None]) -> bool:
        """All of them in turn. One that fails is told, and the others go on; then it is False."""
        parts = list(parts)
        self.folder.mkdir(parents=True, exist_ok=True)
        # The comparison has the versions of all its peers in its own.
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
            # At once: what is ended before it is through has measured this.
            self.file("sitting").write_text(json.dumps(system, indent=1) + "\n")
        return is_whole


def busy_part(seconds: float) -> float:
    """The part of all CPUs' time that somebody used, while this one slept."""
    before, (busy, whole) = cpu_ticks(), (0, 0)
    time.sleep(seconds)
    busy, whole = (now - then for now, then in zip(cpu_ticks(), before, strict=True))
    return busy / max(1, whole)


def cpu_ticks() -> tuple[int, int]:
    """Those that were used, and all."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle, waiting = ticks[3], ticks[4]
    return sum(ticks) - idle - waiting, sum(ticks)
