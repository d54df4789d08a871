"""Measures everything that docs/benchmarks.md has figures of, one after the other.

    make figures ARGS=--publish
    make figures PARTS="self-test bus" ARGS="--seconds 0.1 --rounds 1"
    .venv/bin/python -m benches.figures --document benches/raw/FOLDER

The records are in target/figures, or with --publish in a folder of benches/raw, of which then all
tables and pictures of the page are made.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

from benches.compare.__main__ import positive, say
from benches.compare.document import RAW, ROOT
from benches.compare.keeping import is_debug
from benches.compare.serving import end_in_order

from . import page
from .parts import BY_NAME, PARTS, Effort, Part
from .sitting import Sitting

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
        help="how long a run of the comparison takes, and the others in proportion [%(default)g]",
    )
    parser.add_argument(
        "--rounds", type=positive(int), default=ROUNDS, help="how often each is measured [3]"
    )
    parser.add_argument("--out", type=Path, default=HOME, help="where the records go [%(default)s]")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="keep the records in benches/raw, and make the figures of docs/benchmarks.md of them",
    )
    parser.add_argument(
        "--document",
        type=Path,
        metavar="FOLDER",
        help="only make those of a folder in benches/raw anew, and end",
    )
    parser.add_argument("--list", action="store_true", help="say what can be measured, and end")
    options = parser.parse_args()
    if options.document is not None:
        if options.document.resolve().parent != RAW or not options.document.is_dir():
            parser.error(f"{options.document} is no folder in {RAW.relative_to(ROOT)}.")
        page.write(Sitting(options.document.resolve()))
        return 0
    for name in options.parts:
        if name not in BY_NAME:
            parser.error(f"no part is called {name!r}: there are {', '.join(BY_NAME)}.")
    parts = [part for part in PARTS if part.name in options.parts or not options.parts]
    if options.list:
        for part in parts:
            print(f"{part.name}: {part.missing() or 'can be measured'}")
        return 0
    if options.publish and options.parts:
        parser.error("--publish wants all parts: what is published is of one sitting.")
    if options.publish and is_debug():
        parser.error("this is a debug build, whose figures are good for nothing: use make figures.")
    if absent := lacking(parts):
        parser.error(absent)
    end_in_order()
    sitting = Sitting(new_folder() if options.publish else options.out.resolve())
    try:
        is_whole = sitting.measure(parts, Effort(options.seconds, options.rounds), say)
    except KeyboardInterrupt:
        say(f"Interrupted: what was measured until then is in {sitting.folder}.")
        return 130
    if options.publish and is_whole:
        page.write(sitting)
        say(f"docs/benchmarks.md has the figures of {sitting.name}.")
    say(f"All of it is in {sitting.folder}.")
    return 0 if is_whole else 1


def lacking(parts: Sequence[Part]) -> str | None:
    """What has to be there before any of them begins: nothing is left out in silence."""
    reasons = [f"{part.name}: {reason}" for part in parts if (reason := part.missing()) is not None]
    return "some parts cannot be measured here.\n  " + "\n  ".join(reasons) if reasons else None


def new_folder() -> Path:
    return RAW / datetime.datetime.now().astimezone().strftime("%Y-%m-%dT%H%M%S")


if __name__ == "__main__":
    sys.exit(main())
