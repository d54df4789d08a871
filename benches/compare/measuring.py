"""One measurement: an entry's server is started, loaded by `fanbus bench`, and ended."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fanbus_bench._core import bench_memory

from .applications import order
from .bursts import bursts
from .downloads import downloads
from .multiplexing import multiplex
from .notifying import Burst, notify
from .payloads import BODY, FILES
from .rows import BURSTS, DOWNLOADS, HTTP2, NOTIFY, START, WORKER, Entry, Row
from .serving import HangingError, ServerError, seconds_to_answer, serving
from .surroundings import surroundings
from .systems import NEEDED, System, system_of
from .work import CROWD

# More than any run takes: a load client that hangs ends the run, and not the whole.
SPARE_S = 60.0
# An estimate of the time that a load client needs to start.
START_S = 0.7
# Descriptors of a load client other than connections, and some publishers.
OTHER_FILES = 200
MIB = 1 << 20
# How many workers the memory of one is the difference of.
FURTHER_WORKERS = 2

Run = dict[str, Any]


@dataclass(frozen=True)
class Times:
    """How long each run takes."""

    seconds: float
    warmup: float


def measure(row: Row, entry: Entry, times: Times) -> Run:
    """The figures of `fanbus bench --json`, or `{"failed": why}`."""
    reason = why_missing(row, entry)
    if reason is not None:
        return {"failed": reason}
    system = system_of(entry.system, row.program)
    try:
        if row.mode == START:
            return {"start_ms": seconds_to_answer(system, entry.path) * 1000}
        if row.mode == WORKER:
            return {"worker_mb": further_worker_mb(system)}
        with (
            surroundings(row.needs) as environment,
            serving(system, row.workers, {**environment, "TLS": "yes" if row.has_tls else ""}) as (
                pid,
                port,
            ),
        ):
            if row.mode == NOTIFY:
                return notify(entry.path, pid, port, Burst(*map(int, row.options)))
            if row.mode == BURSTS:
                size = int(row.options[0])
                return bursts(entry.path, pid, port, size, times.seconds, times.warmup)
            if row.mode == HTTP2:
                connections, streams = map(int, row.options)
                url = f"https://127.0.0.1:{port}{entry.path}"
                return multiplex(url, pid, (connections, streams), times.seconds, times.warmup)
            if row.mode == DOWNLOADS:
                count = int(row.options[0])
                return downloads(entry.path, pid, port, count, times.seconds + times.warmup)
            if not row.beside:
                return load(row, entry, times, pid, port)
            with beside(row.beside, times, port) as other:
                run = load(row, entry, times, pid, port)
                return {**run, "beside": other()}
    except (ServerError, OSError, ValueError, subprocess.TimeoutExpired) as failure:
        return {"failed": str(failure), "hung": isinstance(failure, HangingError)}


def why_missing(row: Row, entry: Entry) -> str | None:
    """Why an entry cannot be measured here, or None."""
    needed = (package for need in row.needs for package in NEEDED[need])
    reasons = [package.reason() for package in needed if package.version() is None]
    system = system_of(entry.system, row.program).missing()
    return "; ".join([*([system] if system else []), *reasons]) or None


def crowd() -> int:
    """As many clients of one load client as are wanted, or as descriptors allow."""
    return min(CROWD, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - OTHER_FILES)


def allow_crowd() -> None:
    """Raises the limit of descriptors of all that is started from here, as far as it may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (max(hard, CROWD + OTHER_FILES), hard):
        with contextlib.suppress(ValueError, OSError):  # only root may have more than before
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return


def further_worker_mb(system: System) -> float:
    """The memory of one more worker that has nothing to do."""
    with serving(system, 1) as (pid, _):
        one = bench_memory(pid)
    with serving(system, 1 + FURTHER_WORKERS) as (pid, _):
        return (bench_memory(pid) - one) * MIB / 1e6 / FURTHER_WORKERS


@contextlib.contextmanager
def beside(path: str, times: Times, port: int) -> Iterator[Callable[[], Run]]:
    """Four connections that ask for another path all the while. Gives what waits for their run."""
    command = [sys.executable, "-m", "fanbus", "bench", "http", "--json", "--connections", "4"]
    # This load begins before the measured one, and ends with it or a little later.
    command += ["--warmup", "0.5", "--seconds", str(times.seconds + times.warmup + START_S)]
    with subprocess.Popen(
        [*command, f"http://127.0.0.1:{port}{path}"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            time.sleep(START_S)
            yield lambda: json.loads(process.communicate(timeout=SPARE_S)[0])
        finally:
            process.terminate()


def load(row: Row, entry: Entry, times: Times, pid: int, port: int) -> Run:
    scheme = ("http" if row.mode == "http" else "ws") + ("s" if row.has_tls else "")
    command = [sys.executable, "-m", "fanbus", "bench", row.mode]
    command += [f"{scheme}://127.0.0.1:{port}{entry.path}", "--pid", str(pid), "--json"]
    # Of an option that is given twice the last one counts.
    command += ["--seconds", str(times.seconds), "--warmup", str(times.warmup)]
    values = {
        "@PORT@": str(port),
        "@CROWD@": str(crowd()),
        "@UPLOAD@": str(BODY),
        "@FILES@": str(FILES),
    }
    command += [filled(option, values) for option in (*row.options, *entry.options)]
    if row.has_tls:
        command.append("--insecure")
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
        lines = done.stderr.strip().splitlines() or ["the load client said nothing"]
        raise ServerError(lines[-1])
    run: Run = json.loads(done.stdout)
    # Not used here, and it has many lines.
    run.pop("distribution_us", None)
    return run


def filled(option: str, values: Mapping[str, str]) -> str:
    """An option with its placeholders filled in. @BODY50@ is an order of 50 KB."""
    for name, value in values.items():
        option = option.replace(name, value)
    return re.sub(r"^@BODY(\d+)@$", lambda found: order(int(found[1])), option)
