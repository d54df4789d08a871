"""Who makes a streamed response, beside a client that goes at a chosen moment.

Over a socket it is the scheduler that chooses it: tests/http/test_streams_and_files.py.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest

from fanbus._core import Sink
from fanbus.runtime import streaming
from support.servers import DEADLINE_S


class Client:
    """Stands for the sink: takes every piece as long as it is there."""

    def __init__(self) -> None:
        self.is_gone = False
        self.has_had_turn = False
        self.failed: bool | None = None

    def write(self, _piece: str | bytes) -> bool:
        return not self.is_gone and not self.has_had_turn

    def is_full(self) -> bool:
        return False

    def is_over(self) -> bool:
        return self.is_gone

    def end(self, failed: bool) -> None:
        self.failed = failed


class Pieces:
    """Both kinds of an iterator that is no generator: it is closed, whether it was asked or not."""

    def __init__(self) -> None:
        self.asked = 0
        self.closed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:  # on a thread
        self._loop.call_soon_threadsafe(self.closed.set)


class Asked(Pieces):
    def __iter__(self) -> Asked:
        return self

    def __next__(self) -> bytes:
        self.asked += 1
        return b"piece"


class Awaited(Pieces):
    def __aiter__(self) -> Awaited:
        return self

    async def __anext__(self) -> bytes:
        self.asked += 1
        return b"piece"

    async def aclose(self) -> None:
        self.close()


class Threads:
    """Stands for the lane: a thread for each function."""

    def post(self, call: Callable[[], object]) -> bool:
        threading.Thread(target=call).start()
        return True


tasks: set[asyncio.Task[None]] = set()
"""As handlers' tasks are held by the worker."""


def begun(iterator: Any, client: Client) -> streaming.Producer:
    def unexpected(label: str, error: BaseException) -> None:
        raise error

    loop = asyncio.get_running_loop()
    producer, coroutine = streaming.start(
        iterator, None, cast(Sink, client), loop, unexpected, "a test", None, Threads()
    )
    if coroutine is not None:
        tasks.add(loop.create_task(coroutine))
    return producer


def on_a_loop(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, DEADLINE_S))


@pytest.mark.parametrize("kind", [Asked, Awaited])
@pytest.mark.parametrize("knows", ["before it begins", "before its first step"])
def test_unstarted_iterator_is_closed_when_the_client_disconnects(
    kind: type[Asked | Awaited], knows: str
) -> None:
    async def main() -> None:
        client, pieces = Client(), kind()
        producer = begun(pieces, client)
        client.is_gone = True
        if knows == "before it begins":
            producer.over()
        else:
            # The loop calls this behind `begin`, and before anything that `begin` starts on it.
            asyncio.get_running_loop().call_soon(producer.over)
        await pieces.closed.wait()
        if kind is Awaited:  # the other one is asked at once, on a thread
            assert pieces.asked == 0
        assert client.failed is not True

    on_a_loop(main())


@pytest.mark.parametrize("kind", [Asked, Awaited])
def test_a_generator_whose_client_takes_everything_lets_others_have_their_turn(
    kind: type[Asked | Awaited],
) -> None:
    async def main() -> None:
        client, pieces = Client(), kind()
        client.has_had_turn = True
        producer = begun(pieces, client)
        # Without an end to its turn, this would not come to its own.
        while pieces.asked < 10:
            await asyncio.sleep(0)
        client.is_gone = True
        producer.over()
        await pieces.closed.wait()

    on_a_loop(main())


def test_a_generator_that_cleans_up_already_is_not_cancelled() -> None:
    async def main() -> None:
        client = Client()
        cleaning, may_end, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def generator() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"piece"
                    client.is_gone = True
            finally:
                cleaning.set()
                await may_end.wait()
                cleaned.set()

        producer = begun(generator(), client)
        await cleaning.wait()
        producer.over()
        may_end.set()
        await cleaned.wait()

    on_a_loop(main())


def test_a_generator_that_waits_is_cancelled_once_and_may_clean_up() -> None:
    async def main() -> None:
        client = Client()
        waiting, cancelled, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def generator() -> AsyncIterator[bytes]:
            try:
                yield b"piece"
                waiting.set()
                await asyncio.get_running_loop().create_future()
            finally:
                cancelled.set()
                await asyncio.sleep(0)
                cleaned.set()

        producer = begun(generator(), client)
        await waiting.wait()
        client.is_gone = True
        producer.over()
        await cancelled.wait()
        await cleaned.wait()
        assert client.failed is True

    on_a_loop(main())
