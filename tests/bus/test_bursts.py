"""A burst closes nobody: publishers wait for hubs that come on (docs/guarantees.md, promise 3).

All of this is counted: what arrives, and who is closed. How long it takes is not looked at.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from conftest import StartServer
from fanbus import _core
from support.crowd import Client, close_crowd, open_crowd
from support.pairwise import pairwise
from support.servers import DEADLINE_S, Server, stop, wait_for
from support.websocket_clients import hear, join

KIB = 1024
MIB = 1024 * KIB
NAMES = iter(f"burst{number}" for number in range(1_000_000))


class Burst(NamedTuple):
    """`rounds` messages of `bytes` to each of so many topics."""

    topics: int
    rounds: int
    bytes: int

    def json(self, name: str) -> dict[str, Any]:
        return {"name": name, **self._asdict()}


# Each is more than a ring (8 MiB) or the log (65,536 records) holds.
TO_EACH = Burst(500, 20, KIB)
WAYS = ["def", "async", "websocket", "script"]
WORKERS = [1, 2, 8]
HISTORIES = ["", "history"]
TO_MANY = [
    ("def", Burst(1000, 10, KIB)),
    ("def", Burst(2000, 10, KIB)),
    ("async", Burst(1000, 50, 200)),
    ("script", Burst(100, 2, MIB)),
    ("def", Burst(200, 500, 100)),  # the log is the limit
    ("websocket", Burst(40, 20, 20 * KIB)),
]
TO_NOBODY = [
    ("def", Burst(1, 8, 2 * MIB)),
    ("async", Burst(1, 8, 2 * MIB)),
    ("script", Burst(1, 100, MIB)),
    ("script", Burst(1, 200_000, 100)),
]

EVERY = bool(os.environ.get("FANBUS_EVERY_BURST"))
"""Every burst by every way, with every number of workers (`make soak`), and not each pair once."""


def combined(*values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All combinations, or so many that each pair is there."""
    return list(product(*values)) if EVERY else pairwise(*values)


SCRIPT = """
import sys
from fanbus import Bus

bus, name, topics, rounds, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
with Bus.open(bus) as bus:
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(rounds):
        for number in range(topics):
            bus.publish(f"{name}-{number}", "x" * size)
    print("done", flush=True)
    sys.stdin.readline()
"""


def bus_of(server: Server) -> str:
    return server.segment.name.removeprefix("fanbus.")


async def scripts(server: Server, count: int, name: str, burst: Burst) -> None:
    """So many scripts at once."""
    arguments = [bus_of(server), name, *map(str, burst)]
    started = []
    for _ in range(count):
        script = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            SCRIPT,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        started.append(script)
    try:
        for word in (b"ready\n", b"done\n"):
            for script in started:
                assert script.stdout is not None
                assert script.stdin is not None
                assert await script.stdout.readline() == word
            for script in started:
                assert script.stdin is not None
                script.stdin.write(b"\n")
    finally:
        for script in started:
            if script.returncode is None:
                script.kill()
            await script.wait()


async def publish(server: Server, way: str, name: str, burst: Burst) -> None:
    """The burst, by one of the ways."""
    if way == "script":
        await scripts(server, 1, name, burst)
        return

    def over_http() -> None:
        with server.http() as http:
            assert http.post(f"/{way}", json=burst.json(name)).status_code == 200

    def over_websocket() -> None:
        with join(server, "/websocket") as ws:
            ws.send(json.dumps(burst.json(name)))
            assert "slowest" in str(ws.recv(DEADLINE_S))

    await asyncio.to_thread(over_websocket if way == "websocket" else over_http)


async def listeners(server: Server, name: str, topics: int, each: int = 1) -> list[Client]:
    """So many clients on each topic; every worker has some of them."""
    doors = [f"/listen/{name}-{number % topics}" for number in range(topics * each)]
    clients = await open_crowd(server.port, [(door, True) for door in doors])
    greetings = {client.greeting for client in clients}
    if len(clients) >= 25 * server.processes:
        assert greetings == {f"in {pid}" for pid in server.worker_pids()}
    return clients


def complaints(clients: list[Client]) -> Counter[str]:
    """Why clients were closed, and how many of them for each reason."""
    closed = [client for client in clients if client.close_code is not None]
    reasons = (f"{client.close_code} {client.close_reason}" for client in closed)
    return Counter(re.sub(r"\d+ messages", "n messages", reason) for reason in reasons)


async def all_got(clients: list[Client], count: int) -> None:
    """Each has exactly so many messages, and is still there."""
    waits = [client.got(count) for client in clients]
    await asyncio.gather(*waits, return_exceptions=True)
    assert complaints(clients) == {}
    assert Counter(len(client.notes) for client in clients) == {count: len(clients)}


@contextmanager
def http_goes_on(server: Server) -> Iterator[None]:
    """Requests are answered all the while."""
    is_over, statuses = threading.Event(), Counter[int]()

    def ask() -> None:
        with server.http() as http:
            while not is_over.wait(0.02):
                statuses[http.get("/alive").status_code] += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
        # At least one that was asked after everything else.
        answered = statuses.total()
        wait_for(lambda: statuses.total() > answered or not asking.is_alive(), "an answer")
    finally:
        is_over.set()
        asking.join()
    assert set(statuses) == {200}


def run(scenario: Any) -> None:
    """With a deadline, so that a lost message is a failure with a name, and no hang."""
    asyncio.run(asyncio.wait_for(scenario, 150))


@pytest.mark.parametrize(
    ("workers", "way", "history", "burst"),
    combined(WORKERS, WAYS, HISTORIES, [TO_EACH, *(burst for _, burst in TO_MANY if EVERY)]),
    ids=str,
)
def test_a_burst_to_many_reaches_all_and_closes_nobody(
    server: StartServer, workers: int, way: str, history: str, burst: Burst
) -> None:
    environment = {"HISTORY": history}
    one = server("bursts", workers=workers, environment=environment)

    async def scenario() -> None:
        name = next(NAMES)
        clients = await listeners(one, name, burst.topics)
        with http_goes_on(one):
            await publish(one, way, name, burst)
            await all_got(clients, burst.rounds)
        await close_crowd(clients)

    run(scenario())


@pytest.fixture(scope="module")
def bursts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    stderr = tmp_path_factory.mktemp("bursts") / "stderr"
    with Server("bursts", workers=2, environment={}, stderr=stderr) as server:
        yield server


@pytest.mark.parametrize(("way", "burst"), TO_MANY, ids=str)
def test_each_of_many_topics_gets_all_of_it(bursts: Server, way: str, burst: Burst) -> None:
    async def scenario() -> None:
        name = next(NAMES)
        clients = await listeners(bursts, name, burst.topics)
        await publish(bursts, way, name, burst)
        await all_got(clients, burst.rounds)
        await close_crowd(clients)

    run(scenario())


@pytest.mark.parametrize(
    ("workers", "way", "burst"),
    list(product(WORKERS, WAYS, sorted({burst for _, burst in TO_NOBODY})))
    if EVERY
    else [(2, *case) for case in TO_NOBODY],
    ids=str,
)
def test_a_burst_to_nobody_closes_nobody(
    server: StartServer, workers: int, way: str, burst: Burst
) -> None:
    one = server("bursts", workers=workers)

    async def scenario() -> None:
        name = next(NAMES)
        # So many topics that nearly every tag is one of theirs.
        clients = await listeners(one, name, 600)
        await publish(one, way, f"not-{name}", burst)
        await publish(one, "def", name, Burst(600, 1, 10))
        await all_got(clients, 1)
        await close_crowd(clients)

    run(scenario())


@pytest.mark.parametrize("burst", [Burst(100, 20, 2000), Burst(100, 100, 20)], ids=str)
def test_eight_scripts_at_once_overtake_nobody(bursts: Server, burst: Burst) -> None:
    async def scenario() -> None:
        name = next(NAMES)
        clients = await listeners(bursts, name, burst.topics)
        await scripts(bursts, 8, name, burst)
        await all_got(clients, 8 * burst.rounds)
        await close_crowd(clients)

    run(scenario())


def test_both_workers_publish_to_each_other_in_many_requests_at_once(bursts: Server) -> None:
    async def scenario() -> None:
        name, burst = next(NAMES), Burst(100, 10, 2000)
        clients = await listeners(bursts, name, burst.topics)
        ways = ["def", "async"] * 4
        await asyncio.gather(*(publish(bursts, way, name, burst) for way in ways))
        await all_got(clients, len(ways) * burst.rounds)
        await close_crowd(clients)

    run(scenario())


def test_who_subscribes_and_then_publishes_a_burst_gets_all_of_it(bursts: Server) -> None:
    """The subscription is the hub's before anybody waits for the hub."""

    async def scenario() -> None:
        name, rounds = next(NAMES), 40
        client = await Client.open(bursts.port, "/subscribe-first", greeted=False)
        # Its own queue holds 1 MiB: what it gets must not be what closes it.
        await client.send(json.dumps(Burst(1, rounds, 20 * KIB).json(name)))
        noise = Burst(1, 100, MIB)
        await publish(bursts, "script", f"not-{name}", noise)
        await all_got([client], rounds)
        await close_crowd([client])

    run(scenario())


def test_a_burst_to_one_topic_closes_only_clients_that_are_too_slow(bursts: Server) -> None:
    async def scenario() -> None:
        name = next(NAMES)
        clients = await listeners(bursts, name, 1, each=100)
        await publish(bursts, "script", name, Burst(1, 20, MIB))
        waits = [client.got(20) for client in clients]
        await asyncio.gather(*waits, return_exceptions=True)
        allowed = {"1013 this client was too slow: messages were missed"}
        assert set(complaints(clients)) <= allowed
        staying = [client for client in clients if client.close_code is None]
        assert {len(client.notes) for client in staying} <= {20}
        await close_crowd(clients)

    run(scenario())


def test_a_worker_that_is_stopped_is_overtaken_and_says_so_and_the_others_get_all(
    server: StartServer,
) -> None:
    one = server("bursts", workers=2)

    async def scenario() -> None:
        name, burst = next(NAMES), Burst(100, 400, KIB)
        clients = await listeners(one, name, burst.topics)
        stopped = min(one.worker_pids())
        stop(stopped)
        try:
            theirs = [client for client in clients if client.greeting == f"in {stopped}"]
            others = [client for client in clients if client not in theirs]
            assert theirs
            assert others
            # From outside: whatever a handler publishes may be on the worker that is stopped.
            await scripts(one, 2, name, burst)
            await all_got(others, 2 * burst.rounds)
        finally:
            os.kill(stopped, signal.SIGCONT)
        await asyncio.gather(*(client.ended() for client in theirs))
        reason = "1013 this worker stood still: up to n messages were missed"
        assert complaints(theirs) == {reason: len(theirs)}
        # It is one of those that are waited for again.
        back = await listeners(one, f"{name}-again", burst.topics)
        await publish(one, "script", f"{name}-again", burst)
        await all_got(back, burst.rounds)
        await close_crowd([*clients, *back])

    run(scenario())


def test_a_script_says_once_whom_it_does_not_wait_for_any_more(
    server: StartServer, tmp_path: Path
) -> None:
    one = server("bursts", workers=1)
    (worker,) = one.worker_pids()
    with join(one, "/listen/somebody") as ws:
        hear(ws)  # its hub is there, and says how far it has come
    stop(worker)
    try:
        arguments = [bus_of(one), "nobody", "1", "40", str(MIB)]
        said = tmp_path / "said"

        async def script() -> int:
            with said.open("wb") as stderr:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-c",
                    SCRIPT,
                    *arguments,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=stderr,
                )
                await process.communicate(b"\n\n")
                assert process.returncode is not None
                return process.returncode

        assert asyncio.run(script()) == 0
    finally:
        os.kill(worker, signal.SIGCONT)
    lines = [line for line in said.read_text().splitlines() if "stands still" in line]
    assert len(lines) == 1
    assert f"PID {worker} " in lines[0]


def test_how_long_publishers_have_waited_is_counted(bursts: Server) -> None:
    with join(bursts, "/websocket") as ws:

        def waits() -> int:
            ws.send(json.dumps(Burst(1, 50, MIB).json(next(NAMES))))
            ws.recv(DEADLINE_S)
            members = _core.inspect_bus(bus_of(bursts))["members"]
            return sum(member["counts"]["waits"] for member in members)

        assert wait_for(waits, "a publish that waits") > 0
