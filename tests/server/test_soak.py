"""A server that is used, reloaded and killed for a while: what was promised holds all the time.

`make soak` takes SOAK_MINUTES=15; without it this takes a third of a minute. Every message has a
number. No client sees a message twice, out of order, or a hole that it is not told of; what can be
counted comes to rest; and the log has no traceback.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from conftest import StartServer
from fanbus import Bus, _core
from support.servers import DEADLINE_S, Server, wait_for

MINUTES = float(os.environ.get("SOAK_MINUTES", "0.33"))
WORKERS = 3
TOPICS = 4
MESSAGES_PER_SECOND = 100
CLIENTS = 4
"""Of each kind, on each topic."""

CHAOS_EVERY_S = (3.0, 6.0)


class Soak:
    """What the clients have seen, and what was wrong with it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.published = [0] * TOPICS
        self.is_over = asyncio.Event()
        """Nothing more is published: whoever has all of it may go."""

    def has_all(self, topic: int, last: int | None) -> bool:
        return self.is_over.is_set() and last == self.published[topic] - 1

    def check(self, who: str, last: int | None, number: int, *, told: bool) -> None:
        self.counts["messages"] += 1
        if last is None or number == last + 1:
            return
        if number <= last:
            self.wrong.append(f"{who}: {number} came after {last}")
        elif told:
            self.counts["told losses"] += number - last - 1
        else:
            self.wrong.append(f"{who}: {last + 1} to {number - 1} were lost without a word")

    async def again(self, visit: Callable[[], Awaitable[bool]]) -> None:
        """Comes back whenever the connection ends, until `visit` says that it has had all."""
        while True:
            with suppress(OSError, EOFError, ConnectionClosed, InvalidHandshake, TimeoutError):
                if await visit():
                    return
            self.counts["comebacks"] += 1
            await asyncio.sleep(random.uniform(0.05, 0.3))

    async def websocket(self, kind: str, topic: int, name: str) -> None:
        """Between two connections nothing is promised; within one, everything."""

        async def visit() -> bool:
            last: int | None = None
            url = f"ws://127.0.0.1:{self.server.port}/{kind}/{topic}"
            async with connect(url, compression=None, proxy=None, max_size=None) as ws:
                while not self.has_all(topic, last):
                    try:
                        message = await asyncio.wait_for(ws.recv(), 1)
                    except TimeoutError:
                        if self.is_over.is_set():
                            return True  # it came after the last one
                        continue
                    if message:
                        number = int(str(message).split()[0])
                        self.check(name, last, number, told=False)
                        last = number
            return True

        await self.again(visit)

    async def events(self, topic: int, name: str) -> None:
        """Through all connections: what came meanwhile is fetched, and a gap is told."""
        last: int | None = None
        last_id = ""

        async def visit() -> bool:
            nonlocal last, last_id
            reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
            try:
                head = f"GET /events/{topic} HTTP/1.1\r\nHost: soak\r\n"
                writer.write(f"{head}Last-Event-ID: {last_id}\r\n\r\n".encode())
                told = False
                event: dict[str, str] = {}
                while not self.has_all(topic, last):
                    line = await asyncio.wait_for(reader.readline(), DEADLINE_S)
                    if line != b"\n":
                        # Lines of chunks have no colon.
                        field, _, value = line.decode().rstrip().partition(": ")
                        event[field] = value
                        if reader.at_eof():
                            return False
                        continue
                    last_id = event.get("id", last_id)
                    if event.get("event") == "gap":
                        told = True
                    elif "data" in event:
                        number = int(event["data"].split()[0])
                        self.check(name, last, number, told=told)
                        last, told = number, False
                    event.clear()
            finally:
                writer.close()
            return True

        await self.again(visit)

    def publish(self, end: float) -> None:
        """From outside, in a thread: what the server goes through does not hold it up."""
        with Bus.open(f"soak-{self.server.port}") as bus:
            for due in itertools.count(time.monotonic() + 1, 1 / MESSAGES_PER_SECOND):
                if due > end:
                    return
                time.sleep(max(0.0, due - time.monotonic()))
                for topic in range(TOPICS):
                    size = 20_000 if self.published[topic] % 500 == 0 else 20
                    bus.publish(f"soak:{topic}", f"{self.published[topic]} {'x' * size}")
                    self.published[topic] += 1

    async def chaos(self, end: float) -> None:
        """Reloads and kills, one after the other."""
        for kind in itertools.cycle(("reload", "kill")):
            pause = random.uniform(*CHAOS_EVERY_S)
            if time.monotonic() + pause > end:
                return
            await asyncio.sleep(pause)
            if kind == "reload":
                self.server.send_signal(signal.SIGHUP)
            else:
                with suppress(ProcessLookupError):
                    os.kill(random.choice(self.server.worker_pids()), signal.SIGKILL)
            self.counts[f"{kind}s"] += 1

    async def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        clients = [
            client
            for topic in range(TOPICS)
            for number in range(CLIENTS)
            for client in (
                self.websocket("handler", topic, f"handler {topic}.{number}"),
                self.websocket("relay", topic, f"relay {topic}.{number}"),
                self.events(topic, f"events {topic}.{number}"),
            )
        ]
        publisher = asyncio.to_thread(self.publish, end)
        tasks = [asyncio.create_task(client) for client in clients]
        await asyncio.gather(publisher, self.chaos(end - DEADLINE_S / 10))
        self.is_over.set()
        _, late = await asyncio.wait(tasks, timeout=DEADLINE_S)
        for task in tasks:
            if task in late:
                task.cancel()
            elif task.exception() is not None:
                self.wrong.append(f"a client has failed: {task.exception()!r}")
        if late:
            self.wrong.append(f"{len(late)} clients never got the last messages")


def countable(server: Server) -> dict[str, int]:
    """Everything of a server at rest that might grow: of its supervisor, and how many there are."""
    own = Path(f"/proc/{server.pid}")
    status = (own / "status").read_text()
    rss_kb = int(status.split("VmRSS:")[1].split()[0])
    return {
        "processes": len(server.worker_pids()),
        "members of the bus": len(_core.inspect_bus(server.segment.name[7:])["members"]),
        "files in /dev/shm": len(list(Path("/dev/shm").glob(f"fanbus.*{server.port}*"))),
        "descriptors": len(list((own / "fd").iterdir())),
        "threads": len(list((own / "task").iterdir())),
        "MiB": rss_kb // 1024,
    }


def settled(server: Server) -> dict[str, int]:
    """The same, once it was the same for a hundred looks: who has replaced a worker closes what it
    had of that one a moment later."""
    seen: list[dict[str, int]] = []

    def is_settled() -> bool:
        seen.append(countable(server))
        last = seen[-100:]
        return len(last) == 100 and all(each == last[0] for each in last)

    wait_for(is_settled, "a server that has come to rest")
    return seen[-1]


@pytest.mark.supervised("kills and reloads workers")
@pytest.mark.timeout(MINUTES * 60 + 300)
def test_nothing_promised_is_broken_while_workers_are_killed_and_reloaded(
    server: StartServer, tmp_path: Path
) -> None:
    one = server("soak", workers=WORKERS)

    def rests() -> bool:
        return len(one.worker_pids()) == WORKERS == len(_core.inspect_bus(bus)["members"]) - 1

    bus = one.segment.name[7:]
    # A first reload, so that both readings are of a server that has been reloaded.
    one.send_signal(signal.SIGHUP)
    one.wait_for_log("Reloaded")
    wait_for(rests, "all workers")
    before = settled(one)
    soak = Soak(one)
    before_threads = threading.active_count()
    asyncio.run(soak.run(MINUTES * 60))
    wait_for(rests, "all workers")
    after = settled(one)
    counts = f"{MINUTES:g} minutes: {dict(soak.counts)}; at rest before {before}, after {after}"
    sys.stdout.write(f"\n{counts}\n")
    assert soak.wrong == [], soak.wrong[:20]
    assert "Traceback" not in one.log()
    assert threading.active_count() <= before_threads + 1
    assert soak.counts["reloads"] > 0
    assert soak.counts["kills"] > 0
    assert soak.counts["messages"] > sum(soak.published) * CLIENTS
    memory = after.pop("MiB"), before.pop("MiB")
    assert memory[0] <= memory[1] * 1.25 + 4, memory
    assert after == before
