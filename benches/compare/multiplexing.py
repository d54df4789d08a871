"""HTTP/2: many requests at a time on each connection, by h2load, which comes with nghttp2."""

from __future__ import annotations

import re
import subprocess
from typing import Any

from fanbus_bench._core import bench_memory

from .rows import FANBUS, GRANIAN, HTTP2, Entry, Row
from .serving import HangingError, ServerError, cpu_seconds

Figures = dict[str, Any]

SPARE_S = 30.0
_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6}
_MICROSECONDS = re.compile(r"([\d.]+)(us|ms|s)\b")


def _row(connections: int, streams: int) -> Row:
    plural = "s" if connections > 1 else ""
    return Row(
        f"HTTP/2 JSON over TLS, {connections} connection{plural}, {streams} streams on each",
        HTTP2,
        (
            Entry(FANBUS, "/sync", "sync handler"),
            Entry(FANBUS, "/async", "async handler"),
            Entry(GRANIAN, "/"),
            Entry("hypercorn", "/"),
        ),
        (str(connections), str(streams)),
        has_tls=True,
        needs=("h2load",),
    )


MULTIPLEXING = (_row(1, 100), _row(16, 10))


def multiplex(url: str, pid: int, load: tuple[int, int], seconds: float, warmup: float) -> Figures:
    """A closed loop: so many connections, with so many requests under way on each."""
    command = ["h2load", "--clients", str(load[0]), "--max-concurrent-streams", str(load[1])]
    _run([*command, "--duration", _milliseconds(warmup), url], warmup)
    before = cpu_seconds(pid)
    output = _run([*command, "--duration", _milliseconds(seconds), url], seconds)
    used = cpu_seconds(pid) - before
    figures = read(output)
    server = {"cpu_us_per_unit": used * 1e6 / figures["delivered"], "memory_mib": bench_memory(pid)}
    return {**figures, "server": server}


def read(output: str) -> Figures:
    """The figures of what h2load has printed. ServerError if it was not over HTTP/2, or nothing was
    answered."""
    if not re.search(r"^Application protocol: h2$", output, re.MULTILINE):
        raise ServerError("h2load: the server does not speak HTTP/2")
    counted = re.search(r"^requests: .*$", output, re.MULTILINE)
    counts = {
        name: int(count)
        for count, name in re.findall(r"(\d+) (\w+)", counted[0] if counted else "")
    }
    rate = re.search(r"^finished in [^,]*, ([\d.]+) req/s", output, re.MULTILINE)
    waited = re.search(r"^time for request: (.*)$", output, re.MULTILINE)
    if not counts.get("succeeded") or rate is None or waited is None:
        raise ServerError("h2load: no request was answered")
    # The least, the most, the mean.
    _, _, mean = [
        float(value) * _UNITS_US[unit] for value, unit in _MICROSECONDS.findall(waited[1])
    ][:3]
    return {
        "per_second": float(rate[1]),
        "delivered": counts["succeeded"],
        "missing": counts["failed"] + counts["errored"] + counts["timeout"],
        "latency_us": {"mean": mean},
    }


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


def _run(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + SPARE_S
        )
    except subprocess.TimeoutExpired:
        raise HangingError("h2load did not come to an end") from None
    if done.returncode != 0:
        raise ServerError((done.stderr.strip().splitlines() or ["h2load said nothing"])[-1])
    return done.stdout
