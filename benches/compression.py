"""Measures what permessage-deflate costs and saves: the same broadcast plain and deflated, in turn.

    .venv/bin/python -m benches.compression [--rounds 5] [--seconds 4] [--subscribers 1000]

Needs `make .venv/ok-release`. All load goes to 127.0.0.1.
Prints the table of docs/benchmarks/compression.md, which `make figures` writes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from .compare.comparison import Comparison
from .compare.keeping import head
from .compare.measuring import Run, Times, measure
from .compare.rows import FANBUS, Entry, Row
from .compare.serving import end_in_order
from .compare.tables import at, column, pick

CPU = "server.cpu_us_per_unit"
WIRE = "wire_bytes_per_unit"
SIZES = (128, 1024, 4096, 16384)
WORKERS = 2
PLAIN = Entry(FANBUS, "/relay", "plain")
DEFLATED = Entry(FANBUS, "/relay/deflating", "deflated", ("--compressed",))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--record", type=Path, metavar="FILE", help="all runs go there, too")
    options = parser.parse_args()
    end_in_order()
    found = measured(
        options.rounds, Times(options.seconds, options.warmup), subscribers=options.subscribers
    )
    if options.record is not None:
        found.write(options.record)
    print(table(found))
    return int(any("failed" in run for row in found.rows for run in both(found, row)))


def measured(rounds: int, times: Times, *, subscribers: int) -> Comparison:
    """All rounds: for each size plain, and then deflated."""
    rows = [row(size, subscribers) for size in SIZES]
    results: dict[str, dict[str, list[Run]]] = {
        row.name: {entry.name: [] for entry in row.entries} for row in rows
    }
    for number in range(rounds):
        for each in rows:
            for entry in each.entries:
                run = measure(each, entry, times)
                results[each.name][entry.name].append(run)
                result = run.get("failed", pick(run, CPU))
                sys.stderr.write(f"{number + 1} of {rounds}, {each.name}, {entry.name}: {result}\n")
    return Comparison(head(rows, rounds, times.seconds), rows, results)


def row(size: int, subscribers: int) -> Row:
    common = ("--subscribers", str(subscribers), "--publishers", "1")
    # With one message in flight every delivery is a write of its own. At a fixed rate, a
    # server that falls behind would join some, and look cheap.
    load = (*common, "--records", "--bytes", str(size), "--in-flight", "1")
    return Row(f"{size} bytes", "fanout", (PLAIN, DEFLATED), load, WORKERS)


def both(found: Comparison, row: Row) -> list[Run]:
    return [run for entry in row.entries for run in found.runs(row, entry)]


def table(found: Comparison) -> str:
    """Medians; the ratio of CPU is the median of the rounds' ratios, with their spread."""
    lines = [
        "| message | wire, bytes/delivery | ratio | CPU, µs/delivery | ratio | spread | rounds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found.rows:
        pairs = list(zip(*(found.runs(row, entry) for entry in row.entries), strict=True))
        # A run in which nothing came for a second measures the machine. It stays in the record.
        whole = [pair for pair in pairs if all(run.get("complete") for run in pair)]
        if not whole:
            lines.append(f"| {row.name} | – | – | – | – | – | 0 of {len(pairs)} |")
            continue
        plain, deflated = ([pair[place] for pair in whole] for place in (0, 1))
        wires = [column(runs, at(WIRE)) for runs in (plain, deflated)]
        cpus = [column(runs, at(CPU)) for runs in (plain, deflated)]
        wire = [statistics.median(values) for values in wires]
        cpu = [statistics.median(values) for values in cpus]
        ratios = [after / before for before, after in zip(*cpus, strict=True) if before]
        lines.append(
            f"| {row.name} | {wire[0]:.0f} and {wire[1]:.0f} | {wire[1] / wire[0]:.2f} "
            f"| {cpu[0]:.2f} and {cpu[1]:.2f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} | {len(whole)} of {len(pairs)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
