"""The command that measures all figures of docs/benchmarks.md, one after the other.

    make figures ARGS=--publish
    make figures PARTS="self-test bus" ARGS="--seconds 0.1 --rounds 1"
    .venv/bin/python -m benches.figures --document benches/sittings/NAME.json

The records are in target/figures. With --publish their summary goes to benches/sittings, and all
tables and pictures of docs/benchmarks.md and docs/benchmarks/ are made of it.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from benches.compare.__main__ import positive, say
from benches.compare.document import ROOT, SITTINGS
from benches.compare.keeping import is_debug
from benches.compare.serving import end_in_order

from . import page
from .parts import BY_NAME, PARTS, Effort, Part
from .sitting import Sitting
from .summary import Summary

HOME = ROOT / "target/figures"
SECONDS, ROUNDS = 1.0, 3


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benches.figures",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"only these: {', '.join(BY_NAME)}"
    )
    parser.add_argument(
        "--seconds",
        type=positive(float),
        default=SECONDS,
        help="seconds of a run of the comparison; others in proportion [%(default)g]",
    )
    parser.add_argument("--rounds", type=positive(int), default=ROUNDS, help="number of rounds [3]")
    parser.add_argument(
        "--out", type=Path, default=HOME, help="folder of the records [%(default)s]"
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write a summary to benches/sittings, and the tables of docs/benchmarks.md from it",
    )
    parser.add_argument(
        "--document",
        type=Path,
        metavar="FILE",
        help="only write the tables again, from a file in benches/sittings",
    )
    parser.add_argument("--list", action="store_true", help="list the parts, and exit")
    options = parser.parse_args()
    if options.document is not None:
        if options.document.resolve().parent != SITTINGS or not options.document.is_file():
            parser.error(f"{options.document} is not a file in {SITTINGS.relative_to(ROOT)}.")
        page.write(Summary.read(options.document.resolve()))
        return 0
    for name in options.parts:
        if name not in BY_NAME:
            parser.error(f"unknown part {name!r}; known parts: {', '.join(BY_NAME)}.")
    parts = [part for part in PARTS if part.name in options.parts or not options.parts]
    if options.list:
        for part in parts:
            print(f"{part.name}: {part.missing() or 'can be measured'}")
        return 0
    if options.publish and options.parts:
        parser.error("--publish needs all parts: published figures are of one sitting.")
    if options.publish and is_debug():
        parser.error("this is a debug build, and its figures mean nothing: use make figures.")
    if absent := lacking(parts):
        parser.error(absent)
    end_in_order()
    sitting = Sitting(HOME / now() if options.publish else options.out.resolve())
    try:
        is_whole = sitting.measure(parts, Effort(options.seconds, options.rounds), say)
    except KeyboardInterrupt:
        say(f"Interrupted: the parts that were measured are in {sitting.folder}.")
        return 130
    if options.publish and is_whole:
        summary = sitting.summary()
        page.write(summary)
        summary.write(SITTINGS / f"{summary.name}.json")
        say(f"docs/benchmarks.md and its pages have the figures of {summary.name}.")
    say(f"All records are in {sitting.folder}.")
    return 0 if is_whole else 1


def lacking(parts: Sequence[Part]) -> str | None:
    """The reasons why parts cannot be measured; none of them is left out silently."""
    reasons = [f"{part.name}: {reason}" for part in parts if (reason := part.missing()) is not None]
    return "some parts cannot be measured here.\n  " + "\n  ".join(reasons) if reasons else None


def now() -> str:
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%dT%H%M%S")


if __name__ == "__main__":
    sys.exit(main())
