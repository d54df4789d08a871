"""A model of Fanbus on machines that nobody here has: 8, 32 and 64 workers, a million connections.

    python3 -m benches.model

Its costs come from the published sitting; model.json names the figure of each. It makes the tables
of docs/benchmarks/model.md, which lists the assumptions: each figure in them is computed, none is
measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.compare.comparison import Comparison
from benches.compare.document import published
from benches.compare.tables import at, median, short
from benches.figures.summary import Summary

FIGURES = Path(__file__).resolve().parent / "model.json"
WORKERS = (8, 32, 64)
CONNECTIONS = 1_000_000

# A core that has more work answers late: queues grow without bound towards 1.
MOST_WORK = 0.7

# Of the bus: docs/bus.md.
MEMBERS = 64
INTEREST_BUCKETS = 32_768
LOG_ENTRIES = 1 << 16
RING_BYTES = 8 << 20
FIXED_BUS_BYTES = 806 << 10
RECORD_BYTES = 256  # a message of 128 bytes with header and topic, in whole cache lines

HEARTBEAT_S = 25.0  # of WebSocketConfig; one ping and one pong for each client that is silent


@dataclass(frozen=True)
class Costs:
    """What was measured. CPU in microseconds, memory in KiB or MB as the names say."""

    write_us: float
    receive_us: float
    python_us: float
    publish_us: float
    together_us: float
    read_us: float
    wake_us: float
    session_turbo_kib: float
    session_python_kib: float
    socket_kib: float
    worker_mb: float


@dataclass(frozen=True)
class Load:
    """What each client does: it is in one room, and says something every so often."""

    name: str
    # How many are in it. None: everybody is in the same, and what comes there comes from outside.
    room: int | None
    every_s: float
    has_python: bool = False


CHAT_ROOM = 50

LOADS = (
    Load("idle: pings only", 1, float("inf")),
    Load("pairs: rooms of 2, a message every 10 s", 2, 10.0),
    Load("chat: rooms of 50, a message every 30 s", CHAT_ROOM, 30.0),
    Load("the same chat, handlers in Python", CHAT_ROOM, 30.0, has_python=True),
    Load("feed: one topic for all, a message every second", None, 1.0),
)


@dataclass(frozen=True)
class Busy:
    """How long each worker is busy with what, in seconds per second."""

    writing: float
    receiving: float
    python: float
    bus: float
    waking: float

    # Sleepers that one publish wakes.
    woken: float

    @property
    def work(self) -> float:
        """What has to be done. Waking gives way to it: who is busy is not woken."""
        return self.writing + self.receiving + self.python + self.bus

    @property
    def all(self) -> float:
        return self.work + self.waking


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args()
    print(tables(Summary.read(published())))


def tables(sitting: Summary) -> str:
    """All tables of the model, with the costs of that sitting."""
    costs = read(sitting)
    parts = (sources(costs), capacity(costs), million(costs), memory(costs))
    return "\n\n".join("\n".join(part) for part in parts)


def read(sitting: Summary) -> Costs:
    figures = json.loads(FIGURES.read_text())
    return Costs(**{name: cost(figure, sitting) for name, figure in figures.items()})


def cost(figure: Mapping[str, Any], sitting: Summary) -> float:
    """The cost that a figure of model.json has in that sitting."""
    if "bus" in figure:
        return of_bus(sitting, **figure["bus"])
    if "kernel" in figure:
        return float(statistics.median(sitting.record("kernel-memory")["kib"]))
    found = of_comparison(sitting, **figure["compare"])
    return found - of_comparison(sitting, **figure["less"]) if "less" in figure else found


def origin(figure: Mapping[str, Any]) -> str:
    """Where it was measured: the part of the sitting, and the row of it."""
    if "bus" in figure:
        return f"bus: {figure['bus']['case']}"
    if "kernel" in figure:
        return "kernel-memory"
    return f"compare: {figure['compare']['row']}: {figure['compare']['entry']}"


def of_bus(sitting: Summary, case: str, figure: str, per: float = 1.0) -> float:
    """The median of a figure of Fanbus's over the rounds."""
    runs = sitting.record("bus")["runs"]
    rounds = next(
        run["rounds"] for run in runs if (run["contender"], run["case"]) == ("Fanbus", case)
    )
    return statistics.median(float(each[figure]) for each in rounds if each) / per


def of_comparison(sitting: Summary, row: str, entry: str, figure: str) -> float:
    """The median of a figure over the rounds."""
    results = Comparison.of(sitting.record("compare")).results
    found = median(results[row][entry], at(figure))
    if found is None:
        raise ValueError(f"{sitting.name} has no figure for {row}: {entry}.")
    return found


def published_records(load: Load, connections: float) -> float:
    """Records on the bus in a second, of all workers."""
    return 1 / load.every_s if load.room is None else connections / load.every_s


def interested(load: Load, workers: int, connections: float) -> float:
    """The part of the workers that a publish wakes if they sleep: those with somebody in the room,
    or in another room of its bucket of interest."""
    size = connections if load.room is None else load.room
    topics = connections / size
    members = size * max(1.0, topics / INTEREST_BUCKETS)
    return 1.0 - float((1.0 - 1.0 / workers) ** members)


def busy(costs: Costs, load: Load, workers: int, connections: float) -> Busy:
    """What the time of each worker goes into; the work is spread evenly."""
    records = published_records(load, connections)
    room = connections if load.room is None else load.room
    heard = records if load.room is not None else 0.0
    said = heard / workers
    is_silent = load.room is None or load.every_s > HEARTBEAT_S
    pings = connections / HEARTBEAT_S / workers if is_silent else 0.0
    writing = (records * room / workers + pings) * costs.write_us / 1e6
    receiving = (said + pings) * costs.receive_us / 1e6
    python = said * costs.python_us / 1e6 if load.has_python else 0.0
    bus = (said * costs.publish_us + records * costs.read_us) / 1e6

    work = writing + receiving + python + bus
    others = interested(load, workers, connections) * (workers - 1)
    # Each worker pays for a sleeper that is woken as often as any other does.
    each = records * others / workers * costs.wake_us / 1e6
    # Whoever works is not woken: whole = work + each * (1 - whole), up to all the time there is.
    whole = max(work, (work + each) / (1 + each))
    return Busy(writing, receiving, python, bus, whole - work, others * max(0.0, 1 - whole))


def most_connections(costs: Costs, load: Load, workers: int) -> float:
    """How many a server may have until its workers have as much work as they should."""
    low, high = 1.0, 1e10
    for _ in range(200):
        middle = (low * high) ** 0.5
        if busy(costs, load, workers, middle).work > MOST_WORK:
            high = middle
        else:
            low = middle
    return low


def sources(costs: Costs) -> Iterator[str]:
    """What is computed with, and where it was measured."""
    yield "| cost | | | source |"
    yield "|---|---|---|---|"
    for name, figure in json.loads(FIGURES.read_text()).items():
        unit = {"us": "µs", "kib": "KiB", "mb": "MB"}[name.rpartition("_")[2]]
        yield f"| {figure['what']} | {short(getattr(costs, name))} | {unit} | {origin(figure)} |"


def capacity(costs: Costs) -> Iterator[str]:
    yield f"Clients per core when {MOST_WORK:.0%} of its time is work; the part that is writing:"
    yield ""
    yield "| load |" + "".join(f" {count} |" for count in titles())
    yield "|---|" + "---|" * (1 + len(WORKERS))
    for load in LOADS:
        cells = []
        for workers in (1, *WORKERS):
            most = most_connections(costs, load, workers)
            it = busy(costs, load, workers, most)
            cells.append(f"{rounded(most / workers)}, {it.writing / it.work:.0%}")
        yield f"| {load.name} | {' | '.join(cells)} |"


def titles() -> list[str]:
    return ["1 worker", *(f"{workers} workers" for workers in WORKERS)]


def million(costs: Costs) -> Iterator[str]:
    yield f"{CONNECTIONS:,} connections: the time of a worker, and the traffic of the bus:"
    yield ""
    yield (
        "| load | workers | writing | receiving | Python | bus | waking | busy "
        "| sleepers woken by a publish | records/s | a reader may stop for |"
    )
    yield "|---" * 11 + "|"
    for load in LOADS:
        for workers in WORKERS:
            it = busy(costs, load, workers, CONNECTIONS)
            records = published_records(load, CONNECTIONS)
            parts = (it.writing, it.receiving, it.python, it.bus, it.waking)
            cells = " | ".join(f"{part:.1%}" for part in parts)
            whole = f"{it.all:.0%}" if it.work < 1 else "too much"
            woken = f"{it.woken:.1f}" if records else "-"
            yield (
                f"| {load.name} | {workers} | {cells} | {whole} | {woken} | {records:,.0f} "
                f"| {slack(records, workers)} |"
            )


def slack(records: float, workers: int) -> str:
    """How long a worker may do nothing before records that it has not read are overwritten."""
    if records == 0:
        return "-"
    ring = RING_BYTES / RECORD_BYTES / (records / workers)
    seconds = min(LOG_ENTRIES / records, ring)
    return f"{seconds:.1f} s" if seconds < 60 else "minutes"


def memory(costs: Costs) -> Iterator[str]:
    yield f"Memory for {CONNECTIONS:,} idle connections, GiB:"
    yield ""
    yield "| workers | sessions | handlers in Python | kernel's sockets | workers | bus | all |"
    yield "|---|---|---|---|---|---|---|"
    gib = 1 << 30
    for workers in WORKERS:
        turbo = CONNECTIONS * costs.session_turbo_kib * 1024 / gib
        python = CONNECTIONS * costs.session_python_kib * 1024 / gib
        sockets = CONNECTIONS * costs.socket_kib * 1024 / gib
        processes = workers * costs.worker_mb * 1e6 / gib
        bus = (FIXED_BUS_BYTES + workers * RING_BYTES) / gib
        rest = sockets + processes + bus
        yield (
            f"| {workers} | {turbo:.2f} | {python:.2f} | {sockets:.2f} | {processes:.2f} "
            f"| {bus:.2f} | {turbo + rest:.1f} to {python + rest:.1f} |"
        )


def rounded(count: float) -> str:
    """Two digits: the model has no more."""
    digits = max(0, len(f"{count:.0f}") - 2)
    return f"{round(count / 10**digits) * 10**digits:,}"


def plot(costs: Costs) -> str:
    """How busy 64 workers look over the work that they have: what waking makes of idle time."""
    width, height, left, top = 520, 300, 50, 20
    colours = ("#c0392b", "#2471a3", "#1e8449")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} '
        f'{top + height + 110}" font-family="sans-serif" font-size="12">',
        f'<rect width="{left + width + 20}" height="{top + height + 110}" fill="#fff"/>',
    ]
    for tenth in range(0, 11, 2):
        down, across = top + height * (1 - tenth / 10), left + width * tenth / 10
        lines += [
            f'<path d="M{left} {down:.0f}H{left + width}" stroke="#ddd"/>',
            f'<text x="{left - 6}" y="{down + 4:.0f}" text-anchor="end">{tenth * 10} %</text>',
            f'<text x="{across:.0f}" y="{top + height + 16}" text-anchor="middle">'
            f"{tenth * 10} %</text>",
        ]
    lines.append(
        f'<text x="{left}" y="{top + height + 34}">busy (upwards) over work, waking left out</text>'
    )
    chat = next(load for load in LOADS if load.room == CHAT_ROOM)
    full = {workers: most_connections(costs, chat, workers) / MOST_WORK for workers in WORKERS}
    for number, (workers, colour) in enumerate(zip(WORKERS, colours, strict=True)):
        points = []
        for percent in range(1, 101):
            part = busy(costs, chat, workers, full[workers] * percent / 100)
            points.append(f"{left + width * percent / 100:.1f},{top + height * (1 - part.all):.1f}")
        below = top + height + 56 + 18 * number
        lines += [
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" '
            'stroke-width="2"/>',
            f'<rect x="{left}" y="{below - 7}" width="14" height="4" fill="{colour}"/>',
            f'<text x="{left + 22}" y="{below}">{workers} workers, {chat.name}</text>',
        ]
    lines.append("</svg>")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
