"""The chart that shows latencies: from the fastest over the median to the slowest response."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fanbus_bench import _core

__all__ = ["latency_curve"]

_NINES = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"]


def latency_curve(measured: Sequence[Mapping[str, Any]]) -> str | None:
    """The percentiles of each measurement, as the text of an SVG file. None without latencies."""
    lines = [(_name(figures), _points(figures["distribution_us"])) for figures in measured]
    lines = [(name, points) for name, points in lines if points]
    if not lines:
        return None
    modes = ", ".join(sorted({str(figures["mode"]) for figures in measured}))
    return _core.chart(
        f"fanbus bench {modes}", "share that waited no longer", _NINES, "latency, us", True, lines
    )


def _name(figures: Mapping[str, Any]) -> str:
    load = figures["load"]
    pace = "" if load["rate"] is None else f", {load['rate']:g}/s due"
    return f"{figures['url']}: {figures['per_second']:,.0f}/s{pace}"


def _points(buckets: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """Points by the number of nines: 90 % is 1, 99 % is 2. The slowest value has no percentile."""
    total = sum(count for _, count in buckets)
    points, below = [], 0
    for upper_us, count in buckets:
        points.append((math.log10(total / (total - below)), upper_us))
        below += count
    return points
