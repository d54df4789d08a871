"""The position of Fanbus among its peers, read off the comparison without judging it."""

from __future__ import annotations

from functools import partial

from benches.compare.comparison import Comparison
from benches.compare.rows import FANBUS, FLOOR, Entry, Row
from benches.compare.tables import FIGURES, at, column, median, ratio, short, value, whole

# Of these more is better.
MORE_IS_BETTER = ("delivered",)


# The columns of the overview: a title, and the row of the comparison.
OVERVIEW = {
    "HTTP JSON": "HTTP JSON, 64 connections",
    "echo, 1 in flight": "WebSocket echo, 64 connections, 1 in flight",
    "echo, 16 in flight": "WebSocket echo, 64 connections, 16 in flight",
    "handshake": "WebSocket handshakes",
    "broadcast, 2 workers": "broadcast, 200 subscribers, 4 publishers, 64 in flight, 2 workers",
    "idle WebSocket, KiB": "idle WebSockets, 2000",
}


def overview(found: Comparison) -> str:
    """One row for each system, with its medians in the most important rows of the comparison."""
    rows = {row.name: row for row in found.rows}
    columns = [rows[name] for name in OVERVIEW.values()]
    entries = dict.fromkeys(entry.name for row in columns for entry in row.entries)
    lines = [f"| system | {' | '.join(OVERVIEW)} |", "|---" * (1 + len(OVERVIEW)) + "|"]
    for name in sorted(entries, key=lambda name: not name.startswith(FANBUS)):
        cells = [
            next((figure(found, row, entry) for entry in row.entries if entry.name == name), "–")
            for row in columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cheaper(found: Comparison) -> str:
    """All work for which a peer needs less than Fanbus."""
    lines = [
        "| work | system | | system's | Fanbus's | × Fanbus |",
        "|---|---|---|---|---|---|",
    ]
    for row in found.rows:
        ours = [entry for entry in row.entries if entry.system == FANBUS]
        for peer in row.entries:
            if peer.system in (FANBUS, FLOOR):
                continue
            for entry in ours:
                share = ratio(row, found.runs(row, peer), found.runs(row, entry))
                if share is None or not is_better(row, share):
                    continue
                figures = (figure(found, row, each) for each in (peer, entry))
                lines.append(
                    f"| {row.name}{variant(entry)} | {peer.name} | {FIGURES[row.figure][0]} "
                    f"| {' | '.join(figures)} | {short(share)} |"
                )
    return "\n".join(lines) if len(lines) > 2 else "In nothing that was measured."


def is_better(row: Row, share: float) -> bool:
    return share > 1 if row.figure in MORE_IS_BETTER else share < 1


def variant(entry: Entry) -> str:
    return f", {entry.variant}" if entry.variant else ""


def figure(found: Comparison, row: Row, entry: Entry) -> str:
    return short(median(found.runs(row, entry), partial(value, row)))


def delivered(found: Comparison) -> str:
    """The messages of all broadcasts that should reach all subscribers."""
    lines = [
        "| system | delivered | missing | more than once | orders, at most |",
        "|---|---|---|---|---|",
    ]
    rows = [row for row in found.rows if row.mode == "fanout" and row.figure != "delivered"]
    systems = dict.fromkeys(entry.system for row in rows for entry in row.entries)
    for system in systems:
        runs = [
            run
            for row in rows
            for entry in row.entries
            if entry.system == system
            for run in found.runs(row, entry)
        ]
        if not column(runs, at("delivered")):
            continue
        sums = (
            whole(sum(column(runs, at(name)))) for name in ("delivered", "missing", "duplicates")
        )
        orders = max(column(runs, at("orders")), default=0)
        lines.append(f"| {system} | {' | '.join(sums)} | {orders:.0f} |")
    return "\n".join(lines)


def summary(found: Comparison) -> str:
    """The sentences of the README."""
    broadcast = times(
        found,
        "broadcast, 200 subscribers, 4 publishers, 64 in flight, 2 workers",
        "FastAPI and Redis",
        "Fanbus, relay",
    )
    request = times(found, "HTTP JSON, 64 connections", "Granian RSGI", "Fanbus, sync handler")
    return (
        "In a side-by-side measurement, a broadcast over two workers needed "
        f"{broadcast} times the CPU time with\nFastAPI and Redis. A request to a Python handler "
        f"needed {request} times the CPU time with Granian.\nThe "
        "[benchmarks](docs/benchmarks.md#where-fanbus-is-worse) list the cases in which Fanbus is "
        "worse."
    )


def times(found: Comparison, name: str, peer: str, ours: str) -> str:
    row = next(row for row in found.rows if row.name == name)
    theirs, own = found.results[name][peer], found.results[name][ours]
    share = ratio(row, theirs, own)
    if share is None:
        raise ValueError(f"{peer} was not measured: {name}.")
    return f"{share:.2g}"
