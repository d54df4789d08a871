"""Measures Fanbus beside the floor, round by round, and prints the table of docs/benchmarks.md.

    .venv/bin/python benches/figures.py [--rounds 5] [--seconds 4] [--only echo]

Needs `make .venv/ok-release`. All load goes to 127.0.0.1, and is that of `fanbus bench`; the
floor is `fanbus bench server`. What each run printed is kept in benches/raw/, with the date.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FANBUS_PORT, FLOOR_PORT = 5310, 5311
CPU = "server.cpu_us_per_unit"
COMMAND = [sys.executable, "-m", "fanbus", "bench"]


@dataclass(frozen=True)
class Row:
    """One line of the table: the same load for Fanbus and, where there is one, for the floor."""

    name: str
    mode: str
    path: str
    floor: str | None
    options: tuple[str, ...] = ()
    workers: int = 1


ROWS = (
    Row("HTTP JSON, sync handler, 64 connections", "http", "/sync", "/"),
    Row("HTTP JSON, async handler, 64 connections", "http", "/async", "/"),
    Row("HTTP JSON, sync handler, 8 connections", "http", "/sync", "/", ("--connections", "8")),
    Row("WS echo, Python, 1 in flight", "echo", "/echo", "/echo"),
    Row("WS echo, Python, 16 in flight", "echo", "/echo", "/echo", ("--in-flight", "16")),
    Row("WS echo, turbo, 1 in flight", "echo", "/turbo", "/echo"),
    Row("WS echo, turbo, 16 in flight", "echo", "/turbo", "/echo", ("--in-flight", "16")),
    Row(
        "broadcast, relay, 200 subscribers, 4 publishers, 64 in flight",
        "fanout",
        "/relay",
        "/relay",
        workers=2,
    ),
    Row(
        "broadcast, relay, 200 subscribers, 2 publishers, 16 in flight",
        "fanout",
        "/relay",
        "/relay",
        ("--publishers", "2", "--in-flight", "16"),
        workers=2,
    ),
    Row(
        "broadcast, relay, 1000 subscribers, 100 messages/s",
        "fanout",
        "/relay",
        "/relay",
        ("--subscribers", "1000", "--publishers", "1", "--rate", "100"),
        workers=2,
    ),
    Row(
        "broadcast, Python room, 200 subscribers, 4 publishers, 64 in flight",
        "fanout",
        "/room",
        "/relay",
        workers=2,
    ),
    Row("WS handshakes, turbo", "handshake", "/turbo", "/echo"),
    Row("WS handshakes, Python handler", "handshake", "/echo", "/echo"),
    Row("idle WebSockets, turbo", "idle", "/turbo", "/echo", ("--connections", "5000")),
    Row("idle WebSockets, Python handler", "idle", "/echo", "/echo", ("--connections", "5000")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    chosen = [row for row in ROWS if options.only in row.name]
    results: dict[str, list[tuple[dict[str, Any], dict[str, Any] | None]]] = {}
    for number in range(options.rounds):
        for row in chosen:
            ours = measure(row, options.seconds, row.path, fanbus(row.workers))
            least = None
            if row.floor is not None:
                least = measure(row, options.seconds, row.floor, floor())
            results.setdefault(row.name, []).append((ours, least))
            sys.stderr.write(f"round {number + 1}: {row.name}: {column([ours], CPU)[0]:.3g} us\n")
    keep(results)
    show(results)


@contextlib.contextmanager
def server(command: list[str], port: int) -> Iterator[tuple[int, int]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"{command[0]} does not listen on port {port}.")
            time.sleep(0.02)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()


def fanbus(workers: int) -> contextlib.AbstractContextManager[tuple[int, int]]:
    app = str(ROOT / "benches/app.py")
    return server([sys.executable, app, str(FANBUS_PORT), str(workers)], FANBUS_PORT)


def floor() -> contextlib.AbstractContextManager[tuple[int, int]]:
    return server([*COMMAND, "server", "--port", str(FLOOR_PORT)], FLOOR_PORT)


def measure(
    row: Row,
    seconds: int,
    path: str,
    started: contextlib.AbstractContextManager[tuple[int, int]],
) -> dict[str, Any]:
    scheme = "http" if row.mode == "http" else "ws"
    with started as (pid, port):
        command = [*COMMAND, row.mode, f"{scheme}://127.0.0.1:{port}{path}"]
        command += ["--pid", str(pid), "--seconds", str(seconds), "--json", *row.options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.stderr.write(f"{' '.join(command[3:])}: status {done.returncode}\n{done.stderr}\n")
    result: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
    result.pop("distribution_us", None)
    return result


def keep(results: dict[str, Any]) -> None:
    folder = ROOT / "benches/raw"
    folder.mkdir(exist_ok=True)
    stamp = datetime.datetime.now().astimezone().strftime("%Y-%m-%dT%H%M%S")
    system = {"kernel": platform.release(), "python": platform.python_version()}
    text = json.dumps({"system": system, "results": results}, indent=1)
    (folder / f"{stamp}.json").write_text(text + "\n")


def show(results: dict[str, list[tuple[dict[str, Any], dict[str, Any] | None]]]) -> None:
    """Medians, with the spread of what counts most."""
    print("| work | Fanbus | spread | floor | ratio | per second | p50 / p99, us |")
    print("|---|---|---|---|---|---|---|")
    for name, rounds in results.items():
        ours = [run for run, _ in rounds]
        floor = [run for _, run in rounds if run is not None]
        what = "idle.pss_per_connection_kib" if name.startswith("idle") else CPU
        mine, least = column(ours, what), column(floor, what)
        middle, bottom = statistics.median(mine), statistics.median(least)
        rate = statistics.median(column(ours, "per_second"))
        latency = [
            statistics.median(column(ours, key)) for key in ("latency_us.p50", "latency_us.p99")
        ]
        print(
            f"| {name} | {middle:.3g} | {min(mine):.3g} to {max(mine):.3g} | {bottom:.3g} "
            f"| {middle / bottom if bottom else 0:.2f} | {rate:,.0f} "
            f"| {latency[0]:.0f} / {latency[1]:.0f} |"
        )


def column(runs: list[dict[str, Any]], what: str) -> list[float]:
    """One figure of every run that has it, by its path."""
    found = []
    for run in runs:
        value: Any = run
        for name in what.split("."):
            value = (value or {}).get(name)
        if value is not None:
            found.append(float(value))
    return found or [0.0]


if __name__ == "__main__":
    main()
