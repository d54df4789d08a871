"""Measures what threads bring to a synchronous handler that computes, without the GIL and with it.

    MATURIN_ARGS=--release tests/free-threaded tests/test_threads.py
    PYTHONPATH=python target/python-3.13t/bin/python -m benches.threads [--rounds 5] [--first]

The interpreter that runs this serves and loads. All load goes to 127.0.0.1. Prints the table of
docs/benchmarks.md; what each run printed is kept in benches/raw/.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from .compare.keeping import head, new_file
from .compare.measuring import Run, Times, load
from .compare.serving import ServerError, end_in_order, serving
from .compare.systems import ROOT, System
from .compare.tables import at, column
from .compare.work import FANBUS, Entry, Row

ENTRY = Entry(FANBUS, "/compute")
# More at a time than threads: none of them waits for work.
ROW = Row("a handler that computes", "http", (ENTRY,), ("--connections", "16"))
RATE, CPU = "per_second", "server.cpu_us_per_unit"
# Sessions share the CPU, and then their processes. A server is started in a session of its own.
PRIORITY = "/proc/self/autogroup"
FIRST = ("sh", "-c", f'echo -20 > {PRIORITY} && exec "$0" "$@"')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument(
        "--first", action="store_true", help="before all other programs of this machine, as root"
    )
    options = parser.parse_args()
    end_in_order()
    if not hasattr(sys, "_is_gil_enabled"):
        parser.error("run it with an interpreter that can do without the GIL")
    if options.first:
        Path(PRIORITY).write_text("-20")
    before = FIRST if options.first else ()
    results: dict[str, list[Run]] = {}
    system = head([], options.rounds, options.seconds)
    system["versions"] = {"Fanbus": "as it was built for this interpreter", "Python": sys.version}
    for number in range(options.rounds):
        for lock in ("0", "1"):
            for threads in options.threads:
                name = f"{'with' if lock == '1' else 'without'} the GIL, {threads} threads"
                run = measure(before, lock, threads, Times(options.seconds, 1.0))
                results.setdefault(name, []).append(run)
                sys.stderr.write(f"round {number + 1}: {name}: {run.get(RATE, run)}\n")
    kept = {"system": system, "results": results}
    new_file().write_text(json.dumps(kept, indent=1) + "\n")
    show(results)


def measure(before: tuple[str, ...], lock: str, threads: int, times: Times) -> Run:
    environment = (f"PYTHON_GIL={lock}", f"FANBUS_THREADS={threads}")
    app = (sys.executable, str(ROOT / "benches/app.py"), "@PORT@", "@WORKERS@")
    try:
        with serving(System(FANBUS, (*before, "env", *environment, *app)), 1) as (pid, port):
            return load(ROW, ENTRY, times, pid, port)
    except (ServerError, OSError) as failure:
        return {"failed": str(failure)}


def show(results: dict[str, list[Run]]) -> None:
    """Medians with their spread."""
    print("| handlers | requests/s | spread | CPU, ms/request |")
    print("|---|---|---|---|")
    for name, runs in results.items():
        rates = column(runs, at(RATE))
        if not rates:
            print(f"| {name} | - | - | - |")
            continue
        cpu = statistics.median(column(runs, at(CPU))) / 1000
        spread = f"{min(rates):.0f} to {max(rates):.0f}"
        print(f"| {name} | {statistics.median(rates):.0f} | {spread} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
