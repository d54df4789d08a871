"""What is left of a comparison: every run, the tables, a picture, and what it was run on."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fanbus
from fanbus import _core

from .systems import BY_NAME, ROOT
from .tables import Results, column, markdown, value
from .work import Row


def head(rows: Iterable[Row], rounds: int, seconds: float) -> dict[str, Any]:
    """Machine, versions and date."""
    used = sorted({entry.system for row in rows for entry in row.entries})
    versions = {name: BY_NAME[name].missing() or BY_NAME[name].versions() for name in used}
    return {
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "processor": processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
        "rounds": rounds,
        "seconds": seconds,
        "versions": {
            **versions,
            "Fanbus": f"{fanbus.__version__}{build()}",
            "floor": "fanbus bench server",
        },
    }


def build() -> str:
    """The Makefile marks what was built. An unoptimised Fanbus is measured by mistake."""
    is_debug = (ROOT / ".venv/ok-debug").exists()
    return ", a debug build: its figures are good for nothing" if is_debug else ""


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def keep(folder: Path, system: dict[str, Any], rows: Sequence[Row], results: Results) -> str:
    """Writes figures.json, figures.md and broadcast.svg, and returns the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    runs: dict[str, dict[str, Any]] = {}
    for (row, entry), found in results.items():
        runs.setdefault(row, {})[entry] = found
    keep_json(folder / "figures.json", system, runs)
    text = introduction(system) + "\n\n" + markdown(rows, results)
    (folder / "figures.md").write_text(text)
    picture = broadcast(rows, results)
    if picture is not None:
        (folder / "broadcast.svg").write_text(picture)
    return text


def keep_json(path: Path, system: dict[str, Any], results: Any) -> None:
    """Every run, as it was printed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"system": system, "results": results}, indent=1) + "\n")


def raw() -> Path:
    """A new file in benches/raw/, where runs are kept that docs/benchmarks.md has figures of."""
    stamp = datetime.datetime.now().astimezone().strftime("%Y-%m-%dT%H%M%S")
    return ROOT / "benches/raw" / f"{stamp}.json"


def introduction(system: dict[str, Any]) -> str:
    load = " ".join(f"{figure:.2f}" for figure in system["load_average"])
    lines = [
        f"{system['date']}, {system['cpus']} CPUs ({system['processor']}), Linux "
        f"{system['kernel']}, Python {system['python']}; load average {load} before. Medians of "
        f"{system['rounds']} rounds of {system['seconds']:g} s. Ratios are medians of the ratios "
        "within a round.",
        "",
        *(f"- {name}: {versions}" for name, versions in system["versions"].items()),
    ]
    return "\n".join(lines)


def broadcast(rows: Sequence[Row], results: Results) -> str | None:
    """CPU of a delivery over the number of workers, a line for each system."""
    measured = [row for row in rows if row.mode == "fanout" and "64 in flight" in row.name]
    points: dict[str, list[tuple[float, float]]] = {}
    for place, row in enumerate(measured):
        for entry in row.entries:
            found = [
                cpu for cpu in column(results[row.name, entry.name], partial(value, row)) if cpu > 0
            ]
            if found:
                points.setdefault(entry.name, []).append((place, statistics.median(found)))
    if not points:
        return None
    ticks = [f"{row.workers} worker{'s' if row.workers > 1 else ''}" for row in measured]
    return _core.chart(
        "broadcast to 200 subscribers",
        "workers",
        ticks,
        "server CPU for a delivery, us",
        True,
        list(points.items()),
    )
