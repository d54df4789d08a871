"""One measurement: an entry's server is started, loaded by `fanbus bench`, and ended."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from .notifying import Burst, notify
from .serving import HangingError, ServerError, memory_mb, seconds_to_answer, serving
from .systems import BY_NAME, System
from .work import NOTIFY, START, WORKER, Entry, Row

# More than any run takes: a load client that hangs ends the run, and not the whole.
SPARE_S = 30.0
# How many workers the memory of one is the difference of.
FURTHER_WORKERS = 2

Run = dict[str, Any]


@dataclass(frozen=True)
class Times:
    """How long each run takes."""

    seconds: float
    warmup: float


def measure(row: Row, entry: Entry, times: Times) -> Run:
    """What `fanbus bench --json` printed, or `{"failed": why}`."""
    system = BY_NAME[entry.system]
    reason = system.missing()
    if reason is not None:
        return {"failed": reason}
    try:
        if row.mode == START:
            return {"start_ms": seconds_to_answer(system, entry.path) * 1000}
        if row.mode == WORKER:
            return {"worker_mb": further_worker_mb(system)}
        with serving(system, row.workers) as (pid, port):
            if row.mode == NOTIFY:
                return notify(entry.path, pid, port, Burst(*map(int, row.options)))
            return load(row, entry, times, pid, port)
    except (ServerError, OSError, ValueError) as failure:
        return {"failed": str(failure), "hung": isinstance(failure, HangingError)}


def further_worker_mb(system: System) -> float:
    """PSS of one more worker that has nothing to do."""
    with serving(system, 1) as (pid, _):
        one = memory_mb(pid)
    with serving(system, 1 + FURTHER_WORKERS) as (pid, _):
        return (memory_mb(pid) - one) / FURTHER_WORKERS


def load(row: Row, entry: Entry, times: Times, pid: int, port: int) -> Run:
    scheme = "http" if row.mode == "http" else "ws"
    command = [sys.executable, "-m", "fanbus", "bench", row.mode]
    command += [f"{scheme}://127.0.0.1:{port}{entry.path}", "--pid", str(pid), "--json"]
    # Of an option that is given twice the last one counts.
    command += ["--seconds", str(times.seconds), "--warmup", str(times.warmup), *row.options]
    command += [option.replace("@PORT@", str(port)) for option in entry.options]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=times.seconds + times.warmup + SPARE_S,
        )
    except subprocess.TimeoutExpired:
        raise HangingError("the load client did not come to an end") from None
    # 1 means that something was missing, which is counted; 2 that there is nothing to count.
    if done.returncode not in (0, 1) or not done.stdout:
        said = done.stderr.strip().splitlines() or ["the load client said nothing"]
        raise ServerError(said[-1])
    run: Run = json.loads(done.stdout)
    # Many lines, and nobody looks at it here.
    run.pop("distribution_us", None)
    return run
