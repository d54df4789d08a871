"""The figures of all rounds, for people: medians, with their spread, and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial

from .measuring import Run
from .work import FANBUS, FLOOR, Entry, Row

# By row and entry: a run for each round.
Results = dict[tuple[str, str], list[Run]]

UNITS = {"cpu": "CPU, µs", "memory": "KiB each", "delivered": "share delivered"}


def value(row: Row, run: Run) -> float | None:
    """The figure that counts of one run; None if it has none."""
    if "failed" in run:
        return None
    if row.figure == "memory":
        return pick(run, "idle.pss_per_connection_kib")
    if row.figure == "delivered":
        return share(run)
    return pick(run, "server.cpu_us_per_unit")


def pick(run: Run, path: str) -> float | None:
    found: object = run
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else None


def at(path: str) -> Callable[[Run], float | None]:
    """Reads one figure by its path."""
    return lambda run: pick(run, path)


def share(run: Run) -> float | None:
    """Of what should have been delivered, how much was."""
    delivered, missing = pick(run, "delivered") or 0.0, pick(run, "missing") or 0.0
    return delivered / (delivered + missing) if delivered + missing else None


def column(runs: Sequence[Run], read: Callable[[Run], float | None]) -> list[float]:
    """One figure of every run that has it."""
    return [found for run in runs if (found := read(run)) is not None]


def median(runs: Sequence[Run], read: Callable[[Run], float | None]) -> float | None:
    found = column(runs, read)
    return statistics.median(found) if found else None


def ratio(row: Row, runs: Sequence[Run], base: Sequence[Run]) -> float | None:
    """The median of the ratios within a round: what slows a machine down slows both."""
    pairs = [(value(row, run), value(row, other)) for run, other in zip(runs, base, strict=False)]
    ratios = [mine / other for mine, other in pairs if mine is not None and other]
    return statistics.median(ratios) if ratios else None


def markdown(rows: Sequence[Row], results: Results) -> str:
    """A table for each row, and one of Fanbus beside the floor over all of them."""
    parts = [table(row, results) for row in rows]
    return "\n\n".join([*parts, *against_the_floor(rows, results)]) + "\n"


def table(row: Row, results: Results) -> str:
    """All systems of a row."""
    ours = next((entry for entry in row.entries if entry.system == FANBUS), None)
    base = results[row.name, ours.name] if ours else []
    lines = [
        f"**{row.name}**",
        "",
        f"| system | {UNITS[row.figure]} | spread | × {ours.name if ours else FANBUS} | per second "
        "| p50 / p99, µs | missing |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [line(row, entry, results[row.name, entry.name], base) for entry in row.entries]
    return "\n".join(lines)


def line(row: Row, entry: Entry, runs: Sequence[Run], base: Sequence[Run]) -> str:
    found = column(runs, partial(value, row))
    if not found:
        return f"| {entry.name} | {why_not(runs)} | – | – | – | – | – |"
    missing = sum(column(runs, at("missing")))
    due = missing + sum(column(runs, at("delivered")))
    told = "0" if not missing else f"{missing:,.0f} ({missing / due:.1%})"
    orders = max(column(runs, at("orders")), default=0)
    if orders > 1:
        told += f"; {orders:.0f} different orders"
    failed = len([run for run in runs if "failed" in run])
    if failed:
        told += f"; {failed} of {len(runs)} runs failed: {why_not(runs)}"
    cells = [
        entry.name,
        short(statistics.median(found)),
        f"{short(min(found))} to {short(max(found))}",
        short(ratio(row, runs, base)),
        whole(median(runs, at("per_second"))),
        " / ".join(whole(median(runs, at(f"latency_us.{key}"))) for key in ("p50", "p99")),
        told,
    ]
    return f"| {' | '.join(cells)} |"


def against_the_floor(rows: Sequence[Row], results: Results) -> list[str]:
    """What docs/benchmarks.md has under "Figures"."""
    lines = []
    for row in rows:
        floor = next((entry for entry in row.entries if entry.system == FLOOR), None)
        for entry in row.entries:
            if floor is None or entry.system != FANBUS:
                continue
            runs, least = results[row.name, entry.name], results[row.name, floor.name]
            found = column(runs, partial(value, row))
            bottom = median(least, partial(value, row))
            spread = f"{short(min(found))} to {short(max(found))}" if found else "–"
            middle = short(statistics.median(found)) if found else why_not(runs)
            lines.append(
                f"| {row.name}, {entry.variant} | {middle} | {spread} | {short(bottom)} "
                f"| {short(ratio(row, runs, least))} |"
            )
    if not lines:
        return []
    head = ["| work | Fanbus | spread | floor | ratio |", "|---|---|---|---|---|"]
    return ["**Fanbus and the floor**", "\n".join([*head, *lines])]


def why_not(runs: Sequence[Run]) -> str:
    """Why there is no figure; a cell has no bars and no line ends in it."""
    reasons = [run["failed"] for run in runs if "failed" in run]
    reasons += [fault for run in runs for fault in run.get("faults", [])]
    text = str(reasons[0]) if reasons else "nothing was counted"
    return " ".join(text.split()).replace("|", "/")


def short(number: float | None) -> str:
    return "–" if number is None else f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"


def whole(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}"
