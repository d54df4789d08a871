"""Measures what permessage-deflate costs and saves: the same broadcast plain and deflated, in turn.

    .venv/bin/python benches/compression.py [--rounds 5] [--seconds 4] [--subscribers 1000]

Needs `make .venv/ok-release`. All load goes to 127.0.0.1.
Prints the table of docs/benchmarks.md; what each run printed is kept in benches/raw/.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

from figures import CPU, Row, column, fanbus, keep, measure

WIRE = "wire_bytes_per_unit"
SIZES = (128, 1024, 4096, 16384)
WORKERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--subscribers", type=int, default=1000)
    options = parser.parse_args()
    results: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for number in range(options.rounds):
        for size in SIZES:
            name = f"{size} bytes"
            common = ("--subscribers", str(options.subscribers), "--publishers", "1", "--records")
            # With one message in flight every delivery is a write of its own. At a fixed rate, a
            # server that falls behind would join some, and look cheap.
            common += ("--bytes", str(size), "--in-flight", "1")
            plain = Row(name, "fanout", "/relay", None, common)
            deflated = Row(name, "fanout", "/relay/deflating", None, (*common, "--compressed"))
            pair = [
                measure(row, options.seconds, row.path, fanbus(WORKERS))
                for row in (plain, deflated)
            ]
            results.setdefault(name, []).append((pair[0], pair[1]))
            cpu = " and ".join(f"{column([run], CPU)[0]:.3g}" for run in pair)
            sys.stderr.write(f"round {number + 1}: {name}: {cpu} us\n")
    keep(results)
    show(results)


def show(results: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]]) -> None:
    """Medians; the ratio of CPU is the median of the rounds' ratios, with their spread."""
    print("| message | wire, bytes/delivery | ratio | CPU, us/delivery | ratio | spread | rounds |")
    print("|---|---|---|---|---|---|---|")
    for name, rounds in results.items():
        # A run in which nothing came for a second measures the machine, and says so in benches/raw.
        whole = [pair for pair in rounds if all(run.get("complete") for run in pair)]
        plain, deflated = ([pair[at] for pair in whole] for at in (0, 1))
        wire = [statistics.median(column(runs, WIRE)) for runs in (plain, deflated)]
        cpu = [statistics.median(column(runs, CPU)) for runs in (plain, deflated)]
        pairs = zip(column(plain, CPU), column(deflated, CPU), strict=True)
        ratios = [after / before for before, after in pairs if before]
        print(
            f"| {name} | {wire[0]:.0f} and {wire[1]:.0f} | {wire[1] / wire[0]:.2f} "
            f"| {cpu[0]:.2f} and {cpu[1]:.2f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} | {len(whole)} of {len(rounds)} |"
        )


if __name__ == "__main__":
    main()
