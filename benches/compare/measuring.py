"""One measurement: an entry's server is started, loaded by `fanbus bench`, and ended."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from .serving import ServerError, serving
from .systems import BY_NAME
from .work import Entry, Row

# More than any run takes: a load client that hangs ends the run, and not the whole.
SPARE_S = 60.0

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
        with serving(system, row.workers) as (pid, port):
            return load(row, entry, times, pid, port)
    except (ServerError, OSError) as failure:
        return {"failed": str(failure)}


def load(row: Row, entry: Entry, times: Times, pid: int, port: int) -> Run:
    scheme = "http" if row.mode == "http" else "ws"
    command = [sys.executable, "-m", "fanbus", "bench", row.mode]
    command += [f"{scheme}://127.0.0.1:{port}{entry.path}", "--pid", str(pid), "--json"]
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
        raise ServerError("the load client did not come to an end") from None
    # 1 means that something was missing, which is counted; 2 that there is nothing to count.
    if done.returncode not in (0, 1) or not done.stdout:
        said = done.stderr.strip().splitlines() or ["the load client said nothing"]
        raise ServerError(said[-1])
    run: Run = json.loads(done.stdout)
    # Many lines, and nobody looks at it here.
    run.pop("distribution_us", None)
    return run
