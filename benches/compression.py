"""Measures what permessage-deflate costs and saves: the same broadcast plain and deflated, in turn.

    .venv/bin/python -m benches.compression [--rounds 5] [--seconds 4] [--subscribers 1000]

Needs `make .venv/ok-release`. All load goes to 127.0.0.1.
Prints the table of docs/benchmarks.md; what each run printed is kept in benches/raw/.
"""

from __future__ import annotations

import argparse
import statistics
import sys

from .compare.comparison import Comparison
from .compare.keeping import head, new_file
from .compare.measuring import Run, Times, measure
from .compare.serving import end_in_order
from .compare.tables import at, column, pick
from .compare.work import FANBUS, Entry, Row

CPU = "server.cpu_us_per_unit"
WIRE = "wire_bytes_per_unit"
SIZES = (128, 1024, 4096, 16384)
WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--subscribers", type=int, default=1000)
    options = parser.parse_args()
    end_in_order()
    times = Times(options.seconds, 1.0)
    results: dict[str, list[tuple[Run, Run]]] = {}
    rows: dict[str, Row] = {}
    for number in range(options.rounds):
        for size in SIZES:
            name = f"{size} bytes"
            common = ("--subscribers", str(options.subscribers), "--publishers", "1")
            # With one message in flight every delivery is a write of its own. At a fixed rate, a
            # server that falls behind would join some, and look cheap.
            load = (*common, "--records", "--bytes", str(size), "--in-flight", "1")
            plain = Entry(FANBUS, "/relay", "plain")
            deflated = Entry(FANBUS, "/relay/deflating", "deflated", ("--compressed",))
            row = Row(name, "fanout", (plain, deflated), load, WORKERS)
            rows[name] = row
            pair = measure(row, plain, times), measure(row, deflated, times)
            results.setdefault(name, []).append(pair)
            cpu = " and ".join(str(run.get("failed", pick(run, CPU))) for run in pair)
            sys.stderr.write(f"round {number + 1}: {name}: {cpu} us\n")
    keep(options, list(rows.values()), results)
    show(results)


def keep(
    options: argparse.Namespace, rows: list[Row], results: dict[str, list[tuple[Run, Run]]]
) -> None:
    """All runs, as those of the comparison are kept."""
    kept: dict[str, dict[str, list[Run]]] = {
        row.name: {
            entry.name: [pair[place] for pair in results[row.name]]
            for place, entry in enumerate(row.entries)
        }
        for row in rows
    }
    system = head(rows, options.rounds, options.seconds)
    Comparison(system, rows, kept).write(new_file())


def show(results: dict[str, list[tuple[Run, Run]]]) -> None:
    """Medians; the ratio of CPU is the median of the rounds' ratios, with their spread."""
    print("| message | wire, bytes/delivery | ratio | CPU, us/delivery | ratio | spread | rounds |")
    print("|---|---|---|---|---|---|---|")
    for name, rounds in results.items():
        # A run in which nothing came for a second measures the machine, and says so in benches/raw.
        whole = [pair for pair in rounds if all(run.get("complete") for run in pair)]
        plain, deflated = ([pair[at] for pair in whole] for at in (0, 1))
        if not whole:
            print(f"| {name} | – | – | – | – | – | 0 of {len(rounds)} |")
            continue
        wires = [column(runs, at(WIRE)) for runs in (plain, deflated)]
        cpus = [column(runs, at(CPU)) for runs in (plain, deflated)]
        wire = [statistics.median(found) for found in wires]
        cpu = [statistics.median(found) for found in cpus]
        pairs = zip(*cpus, strict=True)
        ratios = [after / before for before, after in pairs if before]
        print(
            f"| {name} | {wire[0]:.0f} and {wire[1]:.0f} | {wire[1] / wire[0]:.2f} "
            f"| {cpu[0]:.2f} and {cpu[1]:.2f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} | {len(whole)} of {len(rounds)} |"
        )


if __name__ == "__main__":
    main()
