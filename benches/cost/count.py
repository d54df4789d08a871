"""Counts the instructions of the paths that a message takes, and compares them with figures.md.

    make cost [UPDATE=1] [ONLY=turn]

It starts the program in this folder under callgrind and reads what that has counted. The exit
status is 1 if a path takes more, or less, than its tolerance allows: a lower cost must be
recorded too, or the next regression would hide in it.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.cost import python_paths

HERE = Path(__file__).resolve().parent
FIGURES = HERE / "figures.md"
PROGRAM = HERE.parent.parent / "target/cost/release/fanbus-cost"

# The number of walks for each length of a turn. The minimum counts: the rest is not of the turn,
# such as the ticks of a worker's clocks, for which a busy machine leaves time.
REPEATS = 2

# Runs behind a committed figure: its spread is what they differ by.
UPDATE_RUNS = 5
# A path may change by this part of its figure, or by so many times its spread if that is more.
LEAST_TOLERANCE = 0.01
SPREADS = 3

HEAD = """\
# What the paths cost

Instructions in user space, counted by callgrind; written by `make cost UPDATE=1`, compared by
`make cost`. The spread is what the runs of the update differed by, largest less smallest. A path
may change by {tolerance:.0%}, or by {spreads} times its spread if that is more.
docs/benchmarks/instructions.md has the method.

{made}

| path | instructions | spread |
|---|---|---|
"""


@dataclass(frozen=True)
class Figure:
    """The cost of a path per walk, and its tolerance."""

    instructions: float
    spread: float

    @property
    def tolerance(self) -> float:
        return max(LEAST_TOLERANCE, SPREADS * self.spread)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write figures.md again")
    parser.add_argument("--only", default="", help="paths whose names contain this")
    parser.add_argument(
        "--runs", type=int, help=f"how often all is walked (1, or {UPDATE_RUNS} for --update)"
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="the figures go there, too")
    options = parser.parse_args()
    if options.update and options.only:
        parser.error("--update needs all paths: leave --only out.")
    made, figures = read(FIGURES.read_text()) if FIGURES.exists() else ("", {})
    runs = options.runs or (UPDATE_RUNS if options.update else 1)
    now = counted(options.only, runs)
    if options.record is not None:
        options.record.write_text(json.dumps(recorded(figures, now), indent=1) + "\n")
    if options.update:
        FIGURES.write_text(written(tools(), now))
    if not options.update and made != tools():
        print(f"The figures were made with {made or 'nothing'}\nand this is         {tools()}\n")
    return show(figures, now, is_whole=not options.only, counts=not options.update)


def recorded(before: dict[str, Figure], now: dict[str, Figure]) -> dict[str, Any]:
    """The counted figures beside the committed ones."""
    committed = {name: figure.instructions for name, figure in before.items()}
    counted = {name: figure.instructions for name, figure in now.items()}
    return {"made": tools(), "committed": committed, "now": counted}


def tools() -> str:
    """The versions of other programs that the figures depend on."""
    rustc, valgrind = output_of("rustc", "--version"), output_of("valgrind", "--version")
    python = f"Python {platform.python_version()}"
    return f"{rustc}; {valgrind}; {python}; {platform.machine()}, {cpu()}"


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def cpu() -> str:
    """Libraries choose their loops by it."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "unknown CPU"


def counted(only: str, runs: int) -> dict[str, Figure]:
    """All paths, walked so many times."""
    results: dict[str, list[float]] = {}
    turns = [(name, int(few), int(many)) for name, few, many in map(cut, lines_of("turns"))]
    for number in range(runs):
        sys.stderr.write(f"walking, {number + 1} of {runs}\n")
        found = walked(only)
        found.update((turn[0], turned(*turn)) for turn in turns if only in turn[0])
        found.update(python_paths.paths(only))
        for name, instructions in found.items():
            results.setdefault(name, []).append(instructions)
    return {name: figure(values) for name, values in results.items()}


def figure(values: list[float]) -> Figure:
    middle = statistics.median(values)
    return Figure(middle, (max(values) - min(values)) / middle)


def walked(only: str) -> dict[str, float]:
    """The paths of one thread: instructions per walk, the median of their windows."""
    with tempfile.TemporaryDirectory() as folder:
        lines = under_callgrind(folder, "--dump-before=*walk::mark*", "parts", only).splitlines()
        dumps = totals(Path(folder))
    paths = [(name, int(windows), int(count)) for name, windows, count in map(cut, lines)]
    # Before the windows of each path lies one for its warm-up; after the last, the program's end.
    marks = sum(windows + 1 for _, windows, _ in paths)
    if len(dumps) != marks + 1:
        raise SystemExit(f"{marks} marks were entered, and callgrind dumped {len(dumps)} times.")
    result, at = {}, 0
    for name, windows, count in paths:
        values = [dumps[number, 1] for number in range(at + 2, at + 2 + windows)]
        result[name] = statistics.median(values) / count
        at += windows + 1
    return result


def cut(line: str) -> list[str]:
    return line.split("\t")


def lines_of(*arguments: str) -> list[str]:
    return run_program(*arguments).splitlines()


def turned(name: str, few: int, many: int) -> float:
    """A turn: instructions of the I/O thread for each, by the difference of two lengths."""
    least = [min(of_io_thread(name, count) for _ in range(REPEATS)) for count in (few, many)]
    return (least[1] - least[0]) / (many - few)


def of_io_thread(name: str, count: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        under_callgrind(folder, "--separate-threads=yes", "turn", name, str(count))
        found = totals(Path(folder))
    # The first thread is the client's; a worker has one.
    others = [count for (_, thread), count in found.items() if thread != 1]
    if len(others) != 1:
        raise SystemExit(f"{name}: a worker has one thread, and {len(others)} were counted.")
    return others[0]


def under_callgrind(folder: str, option: str, *arguments: str) -> str:
    out = f"--callgrind-out-file={folder}/out"
    return run_program(*arguments, before=("valgrind", "--quiet", "--tool=callgrind", out, option))


def run_program(*arguments: str, before: tuple[str, ...] = ()) -> str:
    command = [*before, str(PROGRAM), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}, see above.")
    return done.stdout


def totals(folder: Path) -> dict[tuple[int, int], int]:
    """Callgrind's dumps: the number of each and its thread, and what was counted."""
    found = {}
    for path in folder.iterdir():
        words = dict(re.findall(r"^(part|thread|totals): (\d+)$", path.read_text(), re.MULTILINE))
        if "totals" in words:
            key = int(words.get("part", "1")), int(words.get("thread", "1"))
            found[key] = int(words["totals"])
    return found


def read(text: str) -> tuple[str, dict[str, Figure]]:
    """The content of figures.md: the versions of its programs, and its table."""
    made = re.search(r"^rustc .*$", text, re.MULTILINE)
    rows = re.findall(r"^\| (.+) \| ([\d,]+) \| ([\d.]+) % \|$", text, re.MULTILINE)
    figures = {
        name: Figure(float(count.replace(",", "")), float(spread) / 100)
        for name, count, spread in rows
    }
    return (made[0] if made else ""), figures


def written(made: str, figures: dict[str, Figure]) -> str:
    """The whole of figures.md."""
    rows = (
        f"| {name} | {it.instructions:,.0f} | {it.spread * 100:.2f} % |\n"
        for name, it in figures.items()
    )
    head = HEAD.format(made=made, tolerance=LEAST_TOLERANCE, spreads=SPREADS)
    return head + "".join(rows)


def show(before: dict[str, Figure], now: dict[str, Figure], *, is_whole: bool, counts: bool) -> int:
    """The table. The exit status is 1 if `counts`, and a path is new, gone, or has changed."""
    print("| path | committed | now | change | allowed | |\n|---|---|---|---|---|---|")
    has_changed = False
    for name, it in now.items():
        verdict, change, allowed, committed = "new", "-", "-", "-"
        if known := before.get(name):
            part = it.instructions / known.instructions - 1
            change, allowed = f"{part:+.2%}", f"{known.tolerance:.2%}"
            committed = f"{known.instructions:,.0f}"
            verdict = "" if abs(part) <= known.tolerance else "more" if part > 0 else "less"
        has_changed |= verdict != ""
        print(
            f"| {name} | {committed} | {it.instructions:,.0f} | {change} | {allowed} | {verdict} |"
        )
    for name in before.keys() - now.keys() if is_whole else ():
        has_changed = True
        print(f"| {name} | {before[name].instructions:,.0f} | - | - | - | gone |")
    if has_changed and counts:
        print(
            "\nSomething costs more, or less, than figures.md says. Find out why; if it is meant, "
            "run `make cost UPDATE=1` and commit the file with the reason."
        )
    return int(has_changed and counts)


if __name__ == "__main__":
    sys.exit(main())
