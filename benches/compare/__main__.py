"""Runs Fanbus and its peers side by side, in rounds, and writes tables, a picture and all runs.

    make compare ARGS="--rounds 3 --seconds 2"
    .venv/bin/python -m benches.compare --systems fanbus,floor --rows echo

Peers that are not installed (benches/compare/install) are named in the tables, with the reason.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .keeping import head, keep, keep_json, raw
from .measuring import Run, Times, measure
from .serving import end_in_order
from .systems import BY_NAME, HOME, SYSTEMS
from .tables import Results, value, why_not
from .work import Row, choose


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benches.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds", type=positive(int), default=5, help="how often each is measured [5]"
    )
    parser.add_argument(
        "--seconds", type=positive(float), default=3.0, help="how long each time [3]"
    )
    parser.add_argument("--warmup", type=positive(float), default=0.5, help="and before that [0.5]")
    parser.add_argument(
        "--rows", default="", metavar="TEXT", help="only rows whose name contains it"
    )
    parser.add_argument(
        "--systems",
        default="",
        metavar="NAMES",
        help="only systems whose names contain one of these, with commas between",
    )
    parser.add_argument(
        "--out", type=Path, default=HOME / "results", help="where everything goes [%(default)s]"
    )
    parser.add_argument("--raw", action="store_true", help="keep all runs in benches/raw, too")
    parser.add_argument("--list", action="store_true", help="say what would be measured, and end")
    options = parser.parse_args()
    systems = [name.strip() for name in options.systems.split(",") if name.strip()]
    for name in systems:
        if not any(name.casefold() in system.name.casefold() for system in SYSTEMS):
            parser.error(f"no system is called {name!r}: there are {', '.join(BY_NAME)}.")
    rows = choose(options.rows, systems)
    if not rows:
        parser.error(f"no row has {options.rows!r} in its name and one of these systems in it.")
    if options.list:
        for row in rows:
            print(f"{row.name}: {'; '.join(entry.name for entry in row.entries)}")
        return 0
    end_in_order()
    times = Times(options.seconds, options.warmup)
    system = head(rows, options.rounds, options.seconds)
    try:
        results = rounds(rows, options.rounds, times)
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted: nothing is written.\n")
        return 130
    print(keep(options.out, system, rows, results))
    if options.raw:
        runs = {f"{row}: {entry}": found for (row, entry), found in results.items()}
        keep_json(raw(), system, runs)
    sys.stderr.write(f"All of it is in {options.out}.\n")
    # A peer that is not installed is no mistake; a Fanbus that could not be measured is one.
    is_whole = all(
        "failed" not in run
        for (_, entry), runs in results.items()
        for run in runs
        if entry.startswith("Fanbus")
    )
    return 0 if is_whole else 1


def positive(kind: type[int] | type[float]) -> type[int] | type[float]:
    """A number above 0, for argparse, which names the type in its complaint."""

    def number(text: str) -> float:
        found = kind(text)
        if found <= 0:
            raise ValueError
        return found

    number.__name__ = f"number above 0 ({kind.__name__})"
    return number  # type: ignore[return-value]


def rounds(rows: Sequence[Row], count: int, times: Times) -> Results:
    """In each round, for each row, all take their turns; who begins changes from round to round."""
    results: Results = {}
    in_all = count * sum(len(row.entries) for row in rows)
    begun, done = time.monotonic(), 0
    for number in range(count):
        for row in rows:
            first = number % len(row.entries)
            for entry in (*row.entries[first:], *row.entries[:first]):
                run = measure(row, entry, times)
                results.setdefault((row.name, entry.name), []).append(run)
                done += 1
                left = (time.monotonic() - begun) / done * (in_all - done)
                sys.stderr.write(
                    f"{done} of {in_all}, {left / 60:.0f} min left: {row.name}: {entry.name}: "
                    f"{told(row, run)}\n"
                )
    return results


def told(row: Row, run: Run) -> str:
    figure = value(row, run)
    return why_not([run]) if figure is None else f"{figure:.3g}"


if __name__ == "__main__":
    sys.exit(main())
