"""Measures what threads bring to a synchronous handler that computes, without the GIL and with it.

    MATURIN_ARGS=--release tests/free-threaded tests/runtime/test_threads.py
    PYTHONPATH=python target/python-3.13t/bin/python -m benches.threads [--rounds 5] [--first]

The interpreter that runs this serves and loads. All load goes to 127.0.0.1. Prints the table of
docs/benchmarks.md, whose runs `make figures` keeps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from .compare.keeping import head
from .compare.measuring import Run, Times, load
from .compare.rows import FANBUS, Entry, Row
from .compare.serving import ServerError, end_in_order, serving
from .compare.systems import ROOT, System
from .compare.tables import at, column

ENTRY = Entry(FANBUS, "/compute")
# More at a time than threads: none of them waits for work.
ROW = Row("a handler that computes", "http", (ENTRY,), ("--connections", "16"))
RATE, CPU = "per_second", "server.cpu_us_per_unit"
# The options of the interpreter for the lock.
LOCKS = {"without the GIL": "0", "with it": "1"}
# Sessions share the CPU, and then their processes. A server is started in a session of its own.
PRIORITY = "/proc/self/autogroup"
FIRST = ("sh", "-c", f'echo -20 > {PRIORITY} && exec "$0" "$@"')


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument(
        "--first", action="store_true", help="before all other programs of this machine, as root"
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="all runs go there, too")
    options = parser.parse_args()
    end_in_order()
    if not hasattr(sys, "_is_gil_enabled"):
        parser.error("run it with an interpreter that can do without the GIL")
    if options.first:
        Path(PRIORITY).write_text("-20")
    before = FIRST if options.first else ()
    results: dict[str, dict[str, list[Run]]] = {
        str(threads): {lock: [] for lock in LOCKS} for threads in options.threads
    }
    times = Times(options.seconds, options.warmup)
    system = head([], options.rounds, options.seconds)
    system["versions"] = {"Fanbus": "as it was built for this interpreter", "Python": sys.version}
    for number in range(options.rounds):
        for lock in LOCKS:
            for threads in options.threads:
                run = measure(before, lock, threads, times)
                results[str(threads)][lock].append(run)
                result = run.get(RATE, run)
                sys.stderr.write(
                    f"{number + 1} of {options.rounds}, {lock}, {threads} threads: {result}\n"
                )
    found = {"system": system, "results": results}
    if options.record is not None:
        options.record.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    runs = [run for row in results.values() for each in row.values() for run in each]
    return int(any("failed" in run for run in runs))


def measure(before: tuple[str, ...], lock: str, threads: int, times: Times) -> Run:
    environment = (f"PYTHON_GIL={LOCKS[lock]}", f"FANBUS_THREADS={threads}")
    app = (sys.executable, str(ROOT / "benches/app.py"), "@PORT@", "@WORKERS@")
    try:
        with serving(System(FANBUS, (*before, "env", *environment, *app)), 1) as (pid, port):
            return load(ROW, ENTRY, times, pid, port)
    except (ServerError, OSError) as failure:
        return {"failed": str(failure)}


def table(found: dict[str, Any]) -> str:
    """Medians with their spread."""
    head = [f"{lock}, requests/s | CPU, ms/request" for lock in LOCKS]
    lines = [f"| threads | {' | '.join(head)} |", "|---" * (1 + 2 * len(head)) + "|"]
    for threads, row in found["results"].items():
        cells = [cell for lock in LOCKS for cell in cells_of(row[lock])]
        lines.append(f"| {threads} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cells_of(runs: list[Run]) -> tuple[str, str]:
    rates = column(runs, at(RATE))
    if not rates:
        return "–", "–"
    cpu = statistics.median(column(runs, at(CPU))) / 1000
    spread = f"{min(rates):.0f} to {max(rates):.0f}"
    return f"{statistics.median(rates):.0f} ({spread})", f"{cpu:.2f}"


if __name__ == "__main__":
    sys.exit(main())
