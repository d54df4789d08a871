"""Runs Fanbus and its peers side by side, in rounds, and writes tables, pictures and all runs.

    make compare
    .venv/bin/python -m benches.compare --systems fanbus,floor --rows echo

docs/benchmarks.md and its pages get their tables from `make figures`, which runs this too.
Peers that are not installed (benches/compare/install) are named in the tables, with the reason.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .comparison import Comparison
from .keeping import head, keep
from .measuring import Run, Times, allow_crowd, measure, why_missing
from .payloads import prepare
from .rows import FANBUS, WORKER, Entry, Row
from .serving import end_in_order
from .systems import BY_NAME, HOME
from .tables import value, why_not
from .work import choose

# An estimate of the time that a server needs to start, become idle and end, for the forecast.
AROUND_S = 2.0

Results = dict[str, dict[str, list[Run]]]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benches.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds", type=positive(int), default=3, help="how often each is measured [3]"
    )
    parser.add_argument(
        "--seconds", type=positive(float), default=1.5, help="how long each time [1.5]"
    )
    parser.add_argument("--warmup", type=positive(float), default=0.3, help="and before that [0.3]")
    parser.add_argument(
        "--minutes",
        type=positive(float),
        default=30.0,
        help="begin no round that would end later than that, but for the first [30]",
    )
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
    parser.add_argument("--record", type=Path, metavar="FILE", help="all runs go there, too")
    parser.add_argument("--list", action="store_true", help="say what would be measured, and end")
    options = parser.parse_args()
    systems = [name.strip() for name in options.systems.split(",") if name.strip()]
    for name in systems:
        if not any(name.casefold() in system.name.casefold() for system in BY_NAME.values()):
            parser.error(f"no system is called {name!r}: there are {', '.join(BY_NAME)}.")
    rows = choose(options.rows, systems)
    if not rows:
        parser.error(f"no row has {options.rows!r} in its name and one of these systems in it.")
    if options.list:
        for row in rows:
            print(f"{row.name}: {'; '.join(entry.name for entry in row.entries)}")
        return 0
    end_in_order()
    allow_crowd()
    prepare()
    times = Times(options.seconds, options.warmup)
    say(forecast(rows, options.rounds, times))
    system = head(rows, options.rounds, options.seconds)
    try:
        results, system["rounds"] = rounds(rows, options.rounds, times, options.minutes)
    except KeyboardInterrupt:
        say("Interrupted: nothing is written.")
        return 130
    found = Comparison(system, rows, results)
    print(keep(options.out, found))
    if options.record is not None:
        found.write(options.record)
    say(f"All of it is in {options.out}.")
    # A missing peer is allowed; a Fanbus that could not be measured is an error.
    ours = [(row, entry) for row in rows for entry in row.entries if entry.system == FANBUS]
    is_whole = all("failed" not in run for row, entry in ours for run in found.runs(row, entry))
    return 0 if is_whole else 1


def say(text: str) -> None:
    """Beside the tables, which are the output."""
    sys.stderr.write(f"{text}\n")


def positive(kind: type[int] | type[float]) -> type[int] | type[float]:
    """A number above 0, for argparse, which names the type in its complaint."""

    def number(text: str) -> float:
        found = kind(text)
        if found <= 0:
            raise ValueError
        return found

    number.__name__ = f"number above 0 ({kind.__name__})"
    return number  # type: ignore[return-value]


def forecast(rows: Sequence[Row], count: int, times: Times) -> str:
    """How long it will take, about."""
    entries = [(row, entry) for row in rows for entry in row.entries]
    seconds = 0.0
    for row, entry in entries:
        if why_missing(row, entry) is None:
            starts = 2 if row.mode == WORKER else 1
            seconds += starts * AROUND_S + (times.seconds + times.warmup) * row.has_load
    return f"{count * len(entries)} runs, which take about {count * seconds / 60:.0f} minutes."


def rounds(rows: Sequence[Row], count: int, times: Times, minutes: float) -> tuple[Results, int]:
    """Measures all entries of each row in each round. The first entry changes from round to round.

    Returns how many rounds there were, too: none is begun that would end too late.
    """
    results: Results = {row.name: {entry.name: [] for entry in row.entries} for row in rows}
    in_all = count * sum(len(row.entries) for row in rows)
    begun, done = time.monotonic(), 0
    for number in range(count):
        spent = time.monotonic() - begun
        if number and spent * (number + 1) / number > minutes * 60:
            say(f"{number} of {count} rounds: another one would not end within {minutes:g} min.")
            return results, number
        for row in rows:
            first = number % len(row.entries)
            for entry in (*row.entries[first:], *row.entries[:first]):
                runs = results[row.name][entry.name]
                runs.append(again(runs, row, entry, times))
                done += 1
                left = (time.monotonic() - begun) / done * (in_all - done)
                say(
                    f"{done} of {in_all}, {left / 60:.0f} min left: {row.name}: {entry.name}: "
                    f"{summary(row, runs[-1])}"
                )
    return results, count


def again(runs: Sequence[Run], row: Row, entry: Entry, times: Times) -> Run:
    """Measures, unless it has been waited for in vain before: once is long enough."""
    hung = next((run for run in runs if run.get("hung")), None)
    return hung or measure(row, entry, times)


def summary(row: Row, run: Run) -> str:
    figure = value(row, run)
    return why_not([run]) if figure is None else f"{figure:.3g}"


if __name__ == "__main__":
    sys.exit(main())
