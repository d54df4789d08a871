"""The files of a comparison: every run, the tables, the pictures, and the machine."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fanbus
from fanbus_bench import _core as driver

from .comparison import Comparison
from .rows import Row
from .systems import NEEDED, ROOT, System, system_of
from .tables import column, markdown, value


def head(rows: Collection[Row], rounds: int, seconds: float) -> dict[str, Any]:
    """Machine, versions and date."""
    used = sorted({(entry.system, row.program) for row in rows for entry in row.entries})
    versions = {label(*each): why_or_versions(system_of(*each)) for each in used}
    for package in {package for row in rows for need in row.needs for package in NEEDED[need]}:
        versions[package.name] = package.version() or package.reason()
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
            **dict(sorted(versions.items())),
            "Fanbus": f"{fanbus.__version__}{build()}",
            "floor": "fanbus bench server",
        },
    }


def label(name: str, program: str) -> str:
    return f"{name}, {program}" if program else name


def why_or_versions(system: System) -> str:
    return system.missing() or system.versions()


def build() -> str:
    """The Makefile marks what was built. An unoptimised Fanbus is measured by mistake."""
    return ", a debug build: its figures are good for nothing" if is_debug() else ""


def is_debug() -> bool:
    return (ROOT / ".venv/ok-debug").exists()


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def keep(folder: Path, found: Comparison) -> str:
    """Writes figures.json, figures.md and the pictures, and returns the tables."""
    found.write(folder / "figures.json")
    text = introduction(found.system) + "\n\n" + markdown(found)
    (folder / "figures.md").write_text(text)
    for name, picture in pictures(found).items():
        (folder / name).write_text(picture)
    return text


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


def pictures(found: Comparison) -> dict[str, str]:
    """Those that there are figures for, by the names of their files."""
    fanout = [row for row in found.rows if row.mode == "fanout"]
    drawn = {
        "compare-http.svg": lines_of(
            found,
            [row for row in found.rows if row.mode == "http"],
            lambda row: row.name.removeprefix("HTTP JSON, "),
            ("HTTP, a small JSON document, 1 worker", "", "server CPU for a request, us", True),
        ),
        "compare-echo.svg": lines_of(
            found,
            [row for row in found.rows if row.mode == "echo"],
            lambda row: row.name.rpartition(", ")[2],
            ("WebSocket echo, 64 connections, 1 worker", "", "server CPU for an echo, us", True),
        ),
        "compare-broadcast.svg": lines_of(
            found,
            [row for row in fanout if "64 in flight" in row.name],
            workers,
            ("broadcast to 200 subscribers", "workers", "server CPU for a delivery, us", True),
        ),
        "compare-delivered.svg": lines_of(
            found,
            [row for row in fanout if row.figure == "delivered"],
            workers,
            ("without a broker", "workers", "share of the messages that arrived", False),
        ),
    }
    return {name: picture for name, picture in drawn.items() if picture is not None}


PICTURE_NAMES = {
    "compare-http.svg": "CPU of a request with 64 and 8 connections, of each system",
    "compare-echo.svg": "CPU of an echo with 1 and 16 in flight, of each system",
    "compare-broadcast.svg": "CPU of a delivery over the number of workers, of each system",
    "compare-delivered.svg": "What is delivered over the number of workers, of each system",
}


def workers(row: Row) -> str:
    return f"{row.workers} worker{'s' if row.workers > 1 else ''}"


def lines_of(
    found: Comparison,
    rows: Sequence[Row],
    tick: Callable[[Row], str],
    titles: tuple[str, str, str, bool],
) -> str | None:
    """The rows from left to right, and a line for each system."""
    points: dict[str, list[tuple[float, float]]] = {}
    for place, row in enumerate(rows):
        for entry in row.entries:
            values = [each for each in column(found.runs(row, entry), partial(value, row)) if each]
            if values:
                points.setdefault(entry.name, []).append((place, statistics.median(values)))
    if not points:
        return None
    title, across, up, is_logarithmic = titles
    ticks = [tick(row) for row in rows]
    return driver.chart(title, across, ticks, up, is_logarithmic, list(points.items()))
