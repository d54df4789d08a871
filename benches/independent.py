"""The load client beside one that was written by others: do they measure the same?

    make .venv/ok-release
    .venv/bin/python -m benches.independent [--rounds 5] [--seconds 4]

The chat example with two workers has the same load from `fanbus bench fanout` and from the
library `websockets`, in turn, and both count what arrived. The server's CPU for a delivery is
read from /proc here, for both. A client in Python reads more slowly: its latencies are longer.

The exit status is 1 if something was missing, or if the load client could not have done at least
three times as much as it measured: then it might have measured itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanbus import Bus
from fanbus_bench import _core as driver

from .compare.keeping import head
from .compare.serving import cpu_seconds, end_in_order, serving
from .compare.systems import ROOT, System
from .compare.tables import pick, short, spread

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

CHAT = System(
    "chat",
    (
        *(sys.executable, "-m", "fanbus", "run", "app:app", "--app-dir"),
        *(str(ROOT / "examples/chat"), "--port", "@PORT@", "--workers", "@WORKERS@"),
    ),
)
WORKERS = 2
# No client may send more than 20 messages per second there.
SUBSCRIBERS, PUBLISHERS, RATE = 50, 16, 200.0
BYTES = 128
# A message's author, its number, and when it was due.
STAMP = "{run}:{number:08}:{due:020.9f}:"
PATIENCE_S = 10.0
# A client whose maximum is this many times the measured load does not measure itself. The maximum
# follows from its CPU for a delivery, without the time that it waits for a core.
LEAST_TIMES = 3.0

OURS, THEIRS = "fanbus bench", "websockets"

Figures = dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--record", type=Path, metavar="FILE", help="the rounds go there, too")
    options = parser.parse_args()
    end_in_order()
    clients: dict[str, Callable[[str, float], Figures]] = {
        OURS: of_fanbus,
        THEIRS: of_websockets,
    }
    rounds: dict[str, list[Figures]] = {name: [] for name in clients}
    with chat() as (pid, port):
        for number in range(options.rounds):
            order = list(clients)
            for name in order if number % 2 == 0 else reversed(order):
                url = f"ws://127.0.0.1:{port}/relay/bench{number}"
                found = measured(pid, partial(clients[name], url, options.seconds))
                rounds[name].append(found)
                sys.stderr.write(f"{number + 1}, {name}: {found}\n")
    if options.record is not None:
        record = {"system": head([], options.rounds, options.seconds), "rounds": rounds}
        options.record.write_text(json.dumps(record, indent=1) + "\n")
    print(table(rounds))
    is_whole = all(each["missing"] == 0 for found in rounds.values() for each in found)
    return 0 if is_whole and all(map(is_quick_enough, rounds[OURS])) else 1


@contextlib.contextmanager
def chat() -> Iterator[tuple[int, int]]:
    """The process and the port of the chat example, whose bus would stay for its next start."""
    with serving(CHAT, WORKERS) as (pid, port):
        yield pid, port
    with Bus.open(f"chat-{port}") as bus:
        bus.remove()


def is_quick_enough(found: Figures) -> bool:
    """Whether the client could have done several times what it did."""
    return found["ceiling_per_second"] >= LEAST_TIMES * found["per_second"]


def measured(pid: int, client: Callable[[], Figures]) -> Figures:
    """With the CPU of the server over the whole of it, connecting and leaving too."""
    before = cpu_seconds(pid)
    found = client()
    found["cpu_us"] = (cpu_seconds(pid) - before) * 1e6 / found["delivered"]
    return found


def of_fanbus(url: str, seconds: float) -> Figures:
    found: dict[str, Any] = driver.bench(
        {
            "mode": "fanout",
            "url": url,
            "seconds": seconds,
            "warmup": 0.0,
            "connections": SUBSCRIBERS,
            "publishers": PUBLISHERS,
            "rate": RATE,
            "bytes": BYTES,
        },
        lambda *_: None,
    )
    names = {"p50_us": "latency_us.p50", "p99_us": "latency_us.p99"}
    names |= {"client_cpu_us": "driver.cpu_us_per_unit", "per_second": "per_second"}
    names |= {"ceiling_per_second": "driver.ceiling_per_second"}
    names |= {name: name for name in ("sent", "delivered", "missing", "orders")}
    return {name: pick(found, path) or 0.0 for name, path in names.items()}


def of_websockets(url: str, seconds: float) -> Figures:
    return asyncio.run(Crowd(url).measure(seconds))


@dataclass
class Crowd:
    """As many connections as the other client has, with the same messages at the same times."""

    url: str
    run: str = field(default_factory=lambda: os.urandom(4).hex())
    # Of each connection, in the order in which they came.
    numbers: list[list[int]] = field(default_factory=list)
    waited_us: list[float] = field(default_factory=list)
    ready: set[int] = field(default_factory=set)

    async def measure(self, seconds: float) -> Figures:
        # Here, for the tables are made where it is not installed, too.
        from websockets.asyncio.client import connect

        async with contextlib.AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(connect(self.url, compression=None))
                for _ in range(SUBSCRIBERS + PUBLISHERS)
            ]
            self.numbers = [[] for _ in sockets]
            readers = [asyncio.create_task(self.read(*each)) for each in enumerate(sockets)]
            publishers = sockets[SUBSCRIBERS:]
            await self.probe(publishers[0], len(sockets))
            begun, used = time.monotonic(), time.process_time()
            sent = await self.publish(publishers, seconds)
            deadline = time.monotonic() + PATIENCE_S
            while self.delivered < sent * len(sockets) and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            took, used = time.monotonic() - begun, time.process_time() - used
            for reader in readers:
                reader.cancel()
        return {
            "sent": sent,
            "delivered": self.delivered,
            "missing": sent * len(sockets) - self.delivered,
            "orders": len({tuple(numbers) for numbers in self.numbers}),
            "client_cpu_us": used * 1e6 / self.delivered,
            "per_second": self.delivered / took,
            "ceiling_per_second": self.delivered / used,
            "p50_us": quantile(self.waited_us, 0.5),
            "p99_us": quantile(self.waited_us, 0.99),
        }

    @property
    def delivered(self) -> int:
        return sum(len(set(numbers)) for numbers in self.numbers)

    async def probe(self, publisher: ClientConnection, total: int) -> None:
        """Publishes until all connections have a message."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.ready) < total:
            await publisher.send(f"{self.run}:probe")
            await asyncio.sleep(0.1)
            if time.monotonic() > deadline:
                raise SystemExit(f"{len(self.ready)} of {total} connections got a message.")

    async def publish(self, publishers: list[ClientConnection], seconds: float) -> int:
        begun = time.monotonic()
        count = int(seconds * RATE)
        for number in range(count):
            due = begun + number / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            stamp = STAMP.format(run=self.run, number=number, due=due)
            await publishers[number % len(publishers)].send(stamp.ljust(BYTES, "."))
        return count

    async def read(self, index: int, socket: ClientConnection) -> None:
        async for message in socket:
            run, _, rest = str(message).partition(":")
            if run != self.run:
                continue
            if rest == "probe":
                self.ready.add(index)
                continue
            number, due, _ = rest.split(":", 2)
            self.numbers[index].append(int(number))
            self.waited_us.append((time.monotonic() - float(due)) * 1e6)


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[int(part * (len(values) - 1))] if values else 0.0


def table(rounds: dict[str, list[Figures]]) -> str:
    """The counts of each client, and the CPU of its server in the same round."""
    lines = [
        "| client | sent | delivered | missing | orders | server CPU, µs | spread | ratio "
        "| p50 / p99, µs |",
        "|---" * 9 + "|",
    ]
    for name, found in rounds.items():
        counts = (f"{sum(column(found, key)):,.0f}" for key in ("sent", "delivered", "missing"))
        cpu = column(found, "cpu_us")
        ratios = [
            mine / ours for mine, ours in zip(cpu, column(rounds[OURS], "cpu_us"), strict=True)
        ]
        latency = (f"{statistics.median(column(found, key)):,.0f}" for key in ("p50_us", "p99_us"))
        lines.append(
            f"| {name} | {' | '.join(counts)} | {max(column(found, 'orders')):.0f} "
            f"| {short(statistics.median(cpu))} | {spread(cpu)} "
            f"| {short(statistics.median(ratios))} ({spread(ratios)}) | {' / '.join(latency)} |"
        )
    return "\n".join(lines)


def column(found: list[Figures], key: str) -> list[float]:
    return [each[key] for each in found]


if __name__ == "__main__":
    sys.exit(main())
