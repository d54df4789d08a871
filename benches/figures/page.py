"""docs/benchmarks.md: every table and picture of it, made of the records of one sitting.

`made` has them all; what it does not make stands nowhere between comments on the page, and
tests/docs/test_figures.py sees to it that no measured figure stands outside of them.
"""

from __future__ import annotations

from typing import Any

from benches import compression, configuration, independent, kernel_memory, model, threads
from benches.compare.comparison import Comparison
from benches.compare.document import DOCUMENT, PICTURES, README, SITTING, Section
from benches.compare.keeping import PICTURE_NAMES, pictures, section
from benches.compare.tables import short

from .ceiling import against_the_ceiling, by_itself
from .sitting import Sitting
from .standing import cheaper, delivered, summary

SUMMARY = Section("figures.summary")
MODEL_PICTURE = "model.svg"


def write(sitting: Sitting) -> None:
    """Puts what a sitting has measured where that of the last one was."""
    # All of it first: of a sitting that lacks something nothing is written.
    parts, drawn, told = made(sitting), drawings(sitting), summary(comparison(sitting))
    for name, text in parts.items():
        part = Section(name)
        part.write(DOCUMENT, text, sitting.name if part == SITTING else "")
    SUMMARY.write(README, told)
    for name in (*PICTURE_NAMES, MODEL_PICTURE):
        (PICTURES / name).unlink(missing_ok=True)
    for name, picture in drawn.items():
        (PICTURES / name).write_text(picture)


def made(sitting: Sitting) -> dict[str, str]:
    """What the page has of a sitting: the texts by the names of their parts."""
    compared = comparison(sitting)
    tests, clients = sitting.record("self-test"), sitting.record("independent")["rounds"]
    return {
        SITTING.name: heading(sitting.record("sitting")),
        "figures.compare": section(compared),
        "figures.cheaper": cheaper(compared),
        "figures.delivered": delivered(compared),
        "figures.independent": independent.table(clients),
        "figures.self-test": by_itself(tests),
        "figures.ceiling": against_the_ceiling(compared, tests, clients),
        "figures.compression": compression.table(Comparison.read(sitting.file("compression"))),
        "figures.threads": threads.table(sitting.record("threads")),
        "figures.bus": sitting.record("bus")["tables"],
        "figures.bus-parts": bus_parts(sitting.record("bus-parts")["ns"]),
        "figures.log": sitting.record("log")["tables"],
        "figures.cost": cost(sitting.record("cost")),
        "figures.http-parts": by_name(sitting.record("http-parts")["ns"]),
        "figures.configuration": configuration.table(sitting.record("configuration")),
        "figures.kernel-memory": kernel_memory.table(sitting.record("kernel-memory")),
        "figures.model": model.tables(sitting.folder),
    }


def drawings(sitting: Sitting) -> dict[str, str]:
    """The pictures, by the names of their files."""
    costs = model.read(sitting.folder)
    return {**pictures(comparison(sitting)), MODEL_PICTURE: model.plot(costs)}


def comparison(sitting: Sitting) -> Comparison:
    return Comparison.read(sitting.file("compare"))


def heading(system: dict[str, Any]) -> str:
    """The machine, and what it was like before each part."""
    fanbus = system["versions"]["Fanbus"]
    lines = [
        f"{system['date']}, {system['cpus']} CPUs ({system['processor']}), Linux "
        f"{system['kernel']}, Python {system['python']}, Fanbus {fanbus}; {system['rounds']} "
        f"rounds, a run of the comparison takes {system['seconds']:g} s.",
        "",
        "| part | begun | took, s | CPU that others used before | load average before |",
        "|---|---|---|---|---|",
    ]
    for name, part in system["parts"].items():
        begun = part["begun"][:19].replace("T", " ")
        took, busy = f"{part['seconds']:.0f}", f"{part['busy_before']:.0%}"
        load = " ".join(f"{figure:.2f}" for figure in part["load_average"])
        lines.append(f"| {name} | {begun} | {took} | {busy} | {load} |")
    return "\n".join(lines)


def bus_parts(found: dict[str, dict[str, float]]) -> str:
    """Pieces that were timed for each size side by side, and all others below each other."""
    columns = ("publish", "read", "publish and read", "record encode")
    sizes = [name.rpartition("/")[2] for name in found if name.startswith("publish/")]
    lines = ["| bytes | publish | read | publish and read | of it: record into the ring |"]
    lines.append("|---" * 5 + "|")
    for size in sorted(sizes, key=int):
        cells = [duration(found[f"{name}/{size}"]["at"]) for name in columns]
        lines.append(f"| {int(size):,} | {' | '.join(cells)} |")
    shown = {f"{name}/{size}" for name in columns for size in sizes}
    rest = {name: times for name, times in found.items() if name not in shown}
    return "\n".join(lines) + "\n\n" + by_name(rest)


def by_name(found: dict[str, dict[str, float]]) -> str:
    """What Criterion has timed, with its bounds."""
    lines = ["| | time | from, to (95 %) |", "|---|---|---|"]
    for name in sorted(found, key=in_order):
        least, most = (duration(found[name][bound]) for bound in ("least", "most"))
        lines.append(
            f"| {name.replace('/', ': ')} | {duration(found[name]['at'])} | {least}, {most} |"
        )
    return "\n".join(lines)


def in_order(name: str) -> tuple[str, int, str]:
    """By the number at the end, if there is one."""
    group, _, last = name.rpartition("/")
    return (group, int(last), "") if last.isdecimal() else (group, 0, last)


def duration(nanoseconds: float) -> str:
    if nanoseconds < 1e3:
        return f"{short(nanoseconds)} ns"
    return f"{short(nanoseconds / 1e3)} µs"


def cost(found: dict[str, Any]) -> str:
    """Counts of the sitting, and how they differ from those that are committed."""
    lines = [found["made"] + ":", "", "| path | instructions | to figures.md |", "|---|---|---|"]
    for name, count in found["now"].items():
        before = found["committed"].get(name)
        change = f"{count / before - 1:+.1%}" if before else "–"
        lines.append(f"| {name} | {count:,.0f} | {change} |")
    return "\n".join(lines)
