"""The figures of all rounds, for people: medians, with their spread, and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial

from .comparison import Comparison
from .measuring import Run
from .rows import FANBUS, FLOOR, Bar, Entry, Row

Read = Callable[[Run], float | None]


def value(row: Row, run: Run) -> float | None:
    """The figure that counts of one run; None if it has none."""
    return None if "failed" in run else FIGURES[row.figure][1](run)


def pick(run: Run, path: str) -> float | None:
    found: object = run
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return float(found) if isinstance(found, int | float) else None


def at(path: str) -> Read:
    """Reads one figure by its path."""
    return lambda run: pick(run, path)


def milliseconds(path: str) -> Read:
    """The same, of what is counted in microseconds."""

    def read(run: Run) -> float | None:
        found = pick(run, path)
        return None if found is None else found / 1000

    return read


def share(run: Run) -> float | None:
    """Of what should have been delivered, how much was."""
    delivered, missing = pick(run, "delivered") or 0.0, pick(run, "missing") or 0.0
    return delivered / (delivered + missing) if delivered + missing else None


def headroom(run: Run) -> float | None:
    """How many times what it did the driver could do, if it had a core all the time."""
    done, could = pick(run, "per_second"), pick(run, "driver.ceiling_per_second")
    return could / done if done and could else None


# The figures of a row, each with its unit and its place in a run.
FIGURES: dict[str, tuple[str, Read]] = {
    "cpu": ("CPU, µs", at("server.cpu_us_per_unit")),
    "memory": ("KiB each", at("idle.pss_per_connection_kib")),
    "delivered": ("share delivered", share),
    "p99": ("99 % within, ms", milliseconds("latency_us.p99")),
    "rate": ("per second", at("per_second")),
    "worker": ("MB", at("worker_mb")),
    "start": ("ms", at("start_ms")),
    "mean": ("mean, ms", milliseconds("latency_us.mean")),
}


def column(runs: Sequence[Run], read: Read) -> list[float]:
    """One figure of every run that has it."""
    return [found for run in runs if (found := read(run)) is not None]


def median(runs: Sequence[Run], read: Read) -> float | None:
    found = column(runs, read)
    return statistics.median(found) if found else None


def ratio(row: Row, runs: Sequence[Run], base: Sequence[Run]) -> float | None:
    """The median of the ratios within a round: a slow machine slows both."""
    pairs = [(value(row, run), value(row, other)) for run, other in zip(runs, base, strict=False)]
    ratios = [mine / other for mine, other in pairs if mine is not None and other]
    return statistics.median(ratios) if ratios else None


def markdown(found: Comparison) -> str:
    """Fanbus against its bars and beside the floor, and then a table for each row."""
    parts = [against_the_bars(found), against_the_floor(found)]
    parts += [table(found, row) for row in found.rows]
    return "\n\n".join(part for part in parts if part) + "\n"


def compared_with(found: Comparison, row: Row) -> tuple[str, Sequence[Run]]:
    """The name of the first entry of Fanbus in a row, and its runs: others are compared with it."""
    ours = next((entry for entry in row.entries if entry.system == FANBUS), None)
    return (ours.name, found.runs(row, ours)) if ours else (FANBUS, [])


def table(found: Comparison, row: Row) -> str:
    """All systems of a row."""
    if row.program:
        return application(found, row)
    ours, base = compared_with(found, row)
    lines = [
        f"**{row.name}**",
        "",
        f"| system | {FIGURES[row.figure][0]} | spread | × {ours} "
        "| per second | driver could | p50 / p99, µs | missing |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [line(row, entry, found.runs(row, entry), base) for entry in row.entries]
    if row.beside:
        rates = (
            (entry.name, median(found.runs(row, entry), at("beside.per_second")))
            for entry in row.entries
        )
        summary = "; ".join(f"{name} {whole(rate)}" for name, rate in rates)
        lines += ["", f"Beside it, `{row.beside}` per second: {summary}."]
    return "\n".join(lines)


def line(row: Row, entry: Entry, runs: Sequence[Run], base: Sequence[Run]) -> str:
    found = column(runs, partial(value, row))
    if not found:
        return f"| {entry.name} | {why_not(runs)} | – | – | – | – | – | – |"
    cells = [
        entry.name,
        short(statistics.median(found)),
        spread(found),
        short(ratio(row, runs, base)),
        whole(median(runs, at("per_second")) or None),
        times(median(runs, headroom)),
        latency(runs),
        accounted(runs) if row.has_load else "–",
    ]
    return f"| {' | '.join(cells)} |"


def application(found: Comparison, row: Row) -> str:
    """The same of a row of applications, which is also about memory, and about what people wait."""
    _, base = compared_with(found, row)
    lines = [
        f"**{row.name}**",
        "",
        f"| system | {FIGURES[row.figure][0]} | spread | × {FANBUS} | CPU, µs "
        "| mean / p50 / p99, ms | memory, MiB | per second | missing |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in row.entries:
        runs = found.runs(row, entry)
        values = column(runs, partial(value, row))
        if not values:
            lines.append(f"| {entry.name} | {why_not(runs)} |{' – |' * 7}")
            continue
        waits = (median(runs, milliseconds(f"latency_us.{key}")) for key in ("mean", "p50", "p99"))
        cells = [
            entry.name,
            short(statistics.median(values)),
            spread(values),
            short(ratio(row, runs, base)),
            short(median(runs, at("server.cpu_us_per_unit"))),
            " / ".join(map(short, waits)),
            short(median(runs, at("server.memory_mib"))),
            whole(median(runs, at("per_second")) or None),
            accounted(runs),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def accounted(runs: Sequence[Run]) -> str:
    """The number of messages that did not arrive, and other errors."""
    missing = sum(column(runs, at("missing")))
    due = missing + sum(column(runs, at("delivered")))
    summary = "0" if not missing else f"{missing:,.0f} ({missing / due:.1%})"
    closed = sum(column(runs, at("closed")))
    if closed:
        summary += f"; {closed:,.0f} connections closed"
    orders = max(column(runs, at("orders")), default=0)
    if orders > 1:
        summary += f"; {orders:.0f} different orders"
    failed = len([run for run in runs if "failed" in run])
    if failed:
        summary += f"; {failed} of {len(runs)} runs failed: {why_not(runs)}"
    return summary


def against_the_bars(found: Comparison) -> str:
    """The targets of Fanbus, and whether it meets them."""
    lines = []
    for row in found.rows:
        for entry in row.entries:
            bar = row.bars.get(entry.name)
            if bar is not None:
                lines.append(f"| {row.name}{variant(entry)} | {against(found, row, entry, bar)} |")
    head = ["| work | unit | bar | Fanbus | met |", "|---|---|---|---|---|"]
    return "\n".join(["**Fanbus against its bars**", "", *head, *lines]) if lines else ""


def against(found: Comparison, row: Row, entry: Entry, bar: Bar) -> str:
    """The cells of unit, bar, figure and verdict."""
    unit, runs = FIGURES[row.figure][0], found.runs(row, entry)
    mine = median(runs, partial(value, row))
    if bar.times:
        other = next((other for other in row.entries if other.name == bar.times), None)
        mine = ratio(row, runs, found.runs(row, other)) if other else None
        unit = f"× {bar.times}"
    if mine is None:
        verdict = "–"
    else:
        verdict = "yes" if (mine >= bar.limit if bar.is_least else mine <= bar.limit) else "no"
    limit = f"≥ {short(bar.limit)}" if bar.is_least else short(bar.limit)
    return f"{unit} | {limit} | {short(mine)} | {verdict}"


def against_the_floor(found: Comparison) -> str:
    """Fanbus beside the least that it could cost."""
    lines = []
    for row in found.rows:
        floor = next((entry for entry in row.entries if entry.system == FLOOR), None)
        for entry in row.entries:
            if floor is None or entry.system != FANBUS:
                continue
            runs, least = found.runs(row, entry), found.runs(row, floor)
            values = column(runs, partial(value, row))
            cells = [
                f"{row.name}{variant(entry)}",
                short(statistics.median(values)) if values else why_not(runs),
                spread(values),
                short(median(least, partial(value, row))),
                short(ratio(row, runs, least)),
                whole(median(runs, at("per_second")) or None),
                latency(runs),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    head = [
        "| work | Fanbus | spread | floor | ratio | per second | p50 / p99, µs |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join(["**Fanbus and the floor**", "", *head, *lines]) if lines else ""


def variant(entry: Entry) -> str:
    return f", {entry.variant}" if entry.variant else ""


def spread(values: Sequence[float]) -> str:
    return f"{short(min(values))} to {short(max(values))}" if values else "–"


def latency(runs: Sequence[Run]) -> str:
    found = [whole(median(runs, at(f"latency_us.{key}"))) for key in ("p50", "p99")]
    return "–" if found == ["–", "–"] else " / ".join(found)


def why_not(runs: Sequence[Run]) -> str:
    """Why there is no figure; a cell has no bars and no line ends in it."""
    reasons = [run["failed"] for run in runs if "failed" in run]
    reasons += [fault for run in runs for fault in run.get("faults", [])]
    text = str(reasons[0]) if reasons else "nothing was counted"
    return " ".join(text.split()).replace("|", "/")


def short(number: float | None) -> str:
    return "–" if number is None else f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"


def times(number: float | None) -> str:
    return "–" if number is None else f"{short(number)} ×"


def whole(number: float | None) -> str:
    return "–" if number is None else f"{number:,.0f}"
