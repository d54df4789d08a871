"""The tables and pictures of docs/benchmarks.md and docs/benchmarks/, made of one sitting.

`made` has the text of each section, and `homes` the page of each. A test checks that the pages have
these sections and no others, and that no measured figure stands in the text around them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from benches import compression, configuration, independent, kernel_memory, model, threads
from benches.compare.comparison import Comparison
from benches.compare.document import PICTURES, README, SITTING, Section, homes
from benches.compare.keeping import PICTURE_NAMES, introduction, pictures
from benches.compare.tables import against_the_bars, against_the_floor, short, table

from .ceiling import against_the_ceiling, by_itself
from .standing import cheaper, delivered, overview, summary
from .summary import Summary

SUMMARY = Section("figures.summary")
MODEL_PICTURE = "model.svg"


def write(sitting: Summary) -> None:
    """Replaces the figures of the last sitting with those of this one."""
    # All texts first: a sitting that lacks a part changes nothing.
    sections, drawn, sentences = made(sitting), drawings(sitting), summary(comparison(sitting))
    pages = homes()
    for name, text in sections.items():
        section = Section(name)
        section.write(pages[name], text, sitting.name if section == SITTING else "")
    SUMMARY.write(README, sentences)
    for name in (*PICTURE_NAMES, MODEL_PICTURE):
        (PICTURES / name).unlink(missing_ok=True)
    for name, picture in drawn.items():
        (PICTURES / name).write_text(picture)


def made(sitting: Summary) -> dict[str, str]:
    """The texts of all sections, by their names."""
    compared = comparison(sitting)
    tests, clients = sitting.record("self-test"), sitting.record("independent")["rounds"]
    return {
        SITTING.name: heading(sitting.record("sitting")),
        "figures.overview": overview(compared),
        "figures.pictures": shown(pictures(compared)),
        "figures.bars": against_the_bars(compared),
        "figures.parts": parts(sitting.record("sitting")),
        "figures.versions": introduction(compared.system),
        "figures.floor": against_the_floor(compared),
        "figures.compare": "\n\n".join(table(compared, row) for row in compared.rows),
        "figures.cheaper": cheaper(compared),
        "figures.delivered": delivered(compared),
        "figures.independent": independent.table(clients),
        "figures.self-test": by_itself(tests),
        "figures.ceiling": against_the_ceiling(compared, tests, clients),
        "figures.compression": compression.table(Comparison.of(sitting.record("compression"))),
        "figures.threads": threads.table(sitting.record("threads")),
        "figures.bus": sitting.record("bus")["tables"],
        "figures.bus-parts": bus_parts(sitting.record("bus-parts")["ns"]),
        "figures.log": sitting.record("log")["tables"],
        "figures.cost": cost(sitting.record("cost")),
        "figures.http-parts": by_name(sitting.record("http-parts")["ns"]),
        "figures.configuration": configuration.table(sitting.record("configuration")),
        "figures.kernel-memory": kernel_memory.table(sitting.record("kernel-memory")),
        "figures.model": model.tables(sitting),
    }


def drawings(sitting: Summary) -> dict[str, str]:
    """The pictures, by the names of their files."""
    costs = model.read(sitting)
    return {**pictures(comparison(sitting)), MODEL_PICTURE: model.plot(costs)}


def comparison(sitting: Summary) -> Comparison:
    return Comparison.of(sitting.record("compare"))


def shown(drawn: Collection[str]) -> str:
    """The pictures of the comparison, each with its description."""
    names = {name: text for name, text in PICTURE_NAMES.items() if name in drawn}
    return "\n\n".join(f"![{text}](images/{name})" for name, text in names.items())


def heading(system: dict[str, Any]) -> str:
    """The machine and the date."""
    return (
        f"{system['date']}, {system['cpus']} CPUs ({system['processor']}), Linux "
        f"{system['kernel']}, Python {system['python']}, Fanbus {system['versions']['Fanbus']}; "
        f"{system['rounds']} rounds, a run of the comparison takes {system['seconds']:g} s."
    )


def parts(system: dict[str, Any]) -> str:
    """The parts of the sitting, and how busy the machine was before each of them."""
    lines = [
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
    """The parts that were timed for each size side by side, and all others below each other."""
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
    """The times of Criterion, with their bounds."""
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
