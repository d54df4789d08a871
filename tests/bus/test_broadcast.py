"""Everyone gets it, once, in one order: over all workers, all doors, and through a crash."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from conftest import StartServer
from support.crowd import Client, Note, close_crowd, note, open_crowd
from support.servers import Server, wait_for

CLIENTS = 200
PUBLISHERS = 4

ROOM, RELAY = ("/rooms/hall", True), ("/relay/hall", False)
DOORS = {"room": [ROOM], "relay": [RELAY], "mixed": [ROOM, RELAY]}


@pytest.fixture(params=[2, 4], ids=lambda workers: f"{workers} workers")
def rooms(server: StartServer, request: pytest.FixtureRequest) -> Server:
    """A server of rooms with several workers."""
    return server("rooms", workers=request.param)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """With a deadline, so that a lost message is a failure with a name, and no hang."""

    async def bounded() -> None:
        await asyncio.wait_for(scenario, 100)

    asyncio.run(bounded())


async def crowd_in(server: Server, doors: list[tuple[str, bool]], count: int) -> list[Client]:
    """Clients that enter by the doors in turn; makes sure that every worker has some of them."""
    clients = await open_crowd(server.port, (doors[number % len(doors)] for number in range(count)))
    greetings = {client.greeting for client in clients if client.greeting}
    if ROOM in doors and count >= CLIENTS:
        assert greetings == {f"in {pid}" for pid in server.worker_pids()}
    return clients


def message_of(publisher: int, number: int, length: int) -> str | bytes:
    """Text and binary in turn; long enough ones say whose and the how-manieth they are."""
    name = f"{publisher}:{number}:"
    if length <= len(name):
        return "abcdefghij"[publisher] * length
    text = name + "x" * (length - len(name))
    return text if number % 2 else text.encode()


async def check(clients: list[Client], published: list[list[str | bytes]]) -> None:
    """Exactly once, in one order, and each publisher's in its own."""
    total = sum(len(messages) for messages in published)
    waits = [client.got(total) for client in clients]
    await asyncio.gather(*waits, return_exceptions=True)
    first = max((client.notes for client in clients), key=len)
    behind = [client for client in clients if len(client.notes) < total]
    assert not behind, f"{len(behind)} of {len(clients)} clients: {gap(behind[0].notes, first)}"
    expected = Counter(note(message) for messages in published for message in messages)
    assert Counter(first) == expected
    for client in clients:
        assert client.notes == first, "all see the same, in the same order"
    for messages in published:
        place = Places(first)
        for message in messages:
            place.go_on_to(note(message))


def gap(got: list[Note], whole: list[Note]) -> str:
    """Where something is missing."""
    lost = len(whole) - len(got)
    start = next(
        (at for at, pair in enumerate(zip(got, whole, strict=False)) if pair[0] != pair[1]),
        len(got),
    )
    if got[start:] == whole[start + lost :]:
        return f"messages {start} to {start + lost - 1} of {len(whole)} are missing"
    return f"{lost} of {len(whole)} are missing, the first is {start}"


class Places:
    """Walks through a history, forward only."""

    def __init__(self, history: list[Note]) -> None:
        self._rest: Iterator[Note] = iter(history)

    def go_on_to(self, wanted: Note) -> None:
        assert any(seen == wanted for seen in self._rest), f"{wanted} is out of order"


async def settle(clients: list[Client], publishers: list[Client], total: int) -> None:
    """A last message behind everything: nothing may come after it, so nothing came twice."""
    await publishers[0].send("the end")
    for client in clients:
        await client.got(total + 1)
        assert client.notes[-1] == note("the end")
        assert len(client.notes) == total + 1


@pytest.mark.parametrize("way", DOORS)
def test_every_client_gets_every_message_once_and_in_one_order(rooms: Server, way: str) -> None:
    async def scenario() -> None:
        clients = await crowd_in(rooms, DOORS[way], CLIENTS)
        publishers = clients[:PUBLISHERS]

        async def publish(who: int) -> list[str | bytes]:
            """Small ones in bursts, then larger ones, each size in text and in binary."""
            lengths = [1, 128] * 20 + [64 * 1024] * 4
            messages = [message_of(who, number, length) for number, length in enumerate(lengths)]
            for message in messages:
                await publishers[who].send(message)
            return messages

        published = await asyncio.gather(*(publish(who) for who in range(PUBLISHERS)))
        await check(clients, list(published))
        await settle(clients, publishers, sum(map(len, published)))
        await close_crowd(clients)

    run(scenario())


@pytest.mark.parametrize("way", DOORS)
def test_a_message_of_a_mebibyte_reaches_every_client(rooms: Server, way: str) -> None:
    async def scenario() -> None:
        clients = await crowd_in(rooms, DOORS[way], CLIENTS)
        messages: list[str | bytes] = ["t" * (1024 * 1024), b"\x00\xff" * (512 * 1024)]
        for count, message in enumerate(messages, 1):
            await clients[count].send(message)
            await asyncio.gather(*(client.got(count) for client in clients))
        for client in clients:
            assert client.notes == [note(message) for message in messages]
        await close_crowd(clients)

    run(scenario())


@pytest.mark.parametrize("way", DOORS)
def test_bursts_of_small_messages_lose_nothing(rooms: Server, way: str) -> None:
    async def scenario() -> None:
        clients = await crowd_in(rooms, DOORS[way], 40)
        publishers = clients[:PUBLISHERS]
        published: list[list[str | bytes]] = [[] for _ in publishers]
        for burst in range(5):
            for who, publisher in enumerate(publishers):
                for number in range(100):
                    message = message_of(who, burst * 100 + number, 20)
                    published[who].append(message)
                    await publisher.send(message)
        await check(clients, published)
        await settle(clients, publishers, 5 * 100 * PUBLISHERS)
        await close_crowd(clients)

    run(scenario())


@pytest.mark.parametrize("kind", ["sync", "async", "task", "thread"])
def test_publishers_in_every_kind_of_handler_reach_all_clients(rooms: Server, kind: str) -> None:
    """Twelve requests at a time, so that several workers publish at once."""

    def post(number: int) -> list[int]:
        with rooms.http() as http:
            answer: dict[str, Any] = http.post(f"/{kind}/hall", content=f"{kind} {number}").json()
        return answer.get("offsets") or [answer["offset"]]

    async def scenario() -> None:
        clients = await crowd_in(rooms, DOORS["mixed"], CLIENTS)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(12) as pool:
            offsets = await asyncio.gather(
                *(loop.run_in_executor(pool, post, number) for number in range(60))
            )
        await asyncio.gather(*(client.got(60) for client in clients))
        in_order = sorted(range(60), key=lambda number: offsets[number])
        expected = [note(f"{kind} {number}") for number in in_order]
        for client in clients:
            assert client.notes == expected, "the order is that of the offsets"
        await close_crowd(clients)

    run(scenario())


def test_a_thread_publishes_its_lines_in_order(rooms: Server) -> None:
    lines = [f"line {number}" for number in range(500)]

    async def scenario() -> None:
        clients = await crowd_in(rooms, DOORS["room"], 20)

        def post() -> list[int]:
            with rooms.http() as http:
                offsets: list[int] = http.post("/thread/hall", content="\n".join(lines)).json()[
                    "offsets"
                ]
            return offsets

        offsets = await asyncio.to_thread(post)
        assert offsets == sorted(set(offsets))
        for client in clients:
            await client.got(len(lines))
            assert client.notes == [note(line) for line in lines]
        await close_crowd(clients)

    run(scenario())


def test_the_sender_may_leave_itself_out(rooms: Server) -> None:
    async def scenario() -> None:
        clients = await open_crowd(rooms.port, [("/others/hall", True)] * 20)
        for number in range(20):
            await clients[number].send(f"from {number}")
        everything = Counter(note(f"from {number}") for number in range(20))
        for number, client in enumerate(clients):
            await client.got(19)
            assert Counter(client.notes) == everything - Counter([note(f"from {number}")])
        await close_crowd(clients)

    run(scenario())


def test_topics_are_separate_and_end_with_unsubscribe(rooms: Server) -> None:
    async def scenario() -> None:
        clients = await open_crowd(rooms.port, [("/switch", True)] * 8)
        for number, client in enumerate(clients):
            await client.send(f"+room:{number % 2}")
            await client.got(1)

        async def publish(topic: int, text: str) -> None:
            def post() -> None:
                with rooms.http() as http:
                    assert http.post(f"/sync/{topic}", content=text).status_code == 200

            await asyncio.to_thread(post)

        await publish(0, "even")
        await publish(1, "odd")
        for number, client in enumerate(clients):
            await client.got(2)
            assert client.notes[1] == note("odd" if number % 2 else "even")
        await clients[0].send("-room:0")
        await clients[0].got(3)
        await publish(0, "even again")
        await asyncio.gather(*(clients[number].got(3) for number in (2, 4, 6)))
        await clients[0].send("+room:0")
        await clients[0].got(4)
        await publish(0, "back")
        await clients[0].got(5)
        assert clients[0].notes[2:] == [
            note("unsubscribed room:0"),
            note("subscribed room:0"),
            note("back"),
        ], "what was published between is not for it"
        await close_crowd(clients)

    run(scenario())


@pytest.mark.parametrize("way", DOORS)
def test_the_survivors_of_a_killed_worker_miss_nothing(rooms: Server, way: str) -> None:
    """kill -9 of one worker while everybody publishes; new clients come all the time."""

    async def scenario() -> None:
        watch = await crowd_in(rooms, [ROOM], 48)  # these know their workers: some on each
        crowd = watch + await crowd_in(rooms, DOORS[way], 40)
        pids = rooms.worker_pids()
        victim = random.choice(pids)
        publishers = [client for client in watch if client.greeting != f"in {victim}"][:PUBLISHERS]
        assert len(publishers) == PUBLISHERS
        sent: list[list[str | bytes]] = [[] for _ in publishers]
        stop = asyncio.Event()

        async def publish(who: int) -> None:
            """Waits for its own messages now and then, as a page that shows them would."""
            seen = 0
            while not stop.is_set():
                for _ in range(10):
                    message = message_of(who, len(sent[who]), 64)
                    sent[who].append(message)
                    await publishers[who].send(message)
                seen += 1
                await publishers[who].got(seen * 10)

        publishing = [asyncio.create_task(publish(who)) for who in range(PUBLISHERS)]
        visiting = asyncio.create_task(come_and_go(rooms.port, stop))
        await publishers[0].got(100)
        os.kill(victim, signal.SIGKILL)
        await asyncio.to_thread(
            wait_for,
            lambda: len(now := rooms.worker_pids()) == len(pids) and victim not in now,
            "a new worker",
        )
        after = len(publishers[0].notes)
        await publishers[0].got(after + 100)
        stop.set()
        await asyncio.gather(*publishing)
        assert await visiting > 0

        total = sum(map(len, sent))
        survivors = [client for client in crowd if client.close_code is None]
        assert {client.greeting for client in survivors} >= {
            f"in {pid}" for pid in pids if pid != victim
        }, [(client.greeting, client.close_code) for client in watch]
        for client in watch:
            assert (client.close_code is not None) == (client.greeting == f"in {victim}")
        await check(survivors, sent)
        await settle(survivors, publishers, total)
        await close_crowd(crowd)

        newcomers = await open_crowd(rooms.port, [ROOM] * 40)
        assert {client.greeting for client in newcomers} == {
            f"in {pid}" for pid in rooms.worker_pids()
        }
        await newcomers[0].send("welcome")
        for client in newcomers:
            await client.got(1)
            assert client.notes == [note("welcome")]
        await close_crowd(newcomers)

    run(scenario())


async def come_and_go(port: int, stop: asyncio.Event) -> int:
    """New clients, one after the other. A connection may break if the killed process had it; a
    refused one is an error."""
    answered = broken = 0
    while not stop.is_set():
        try:
            newcomer = await Client.open(port, ROOM[0], greeted=True)
            await newcomer.close()
            answered += 1
        except (ConnectionResetError, BrokenPipeError, asyncio.IncompleteReadError):
            broken += 1
            assert broken <= 1, "only one can have been in flight in the killed process"
    return answered
