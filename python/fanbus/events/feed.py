"""The feed that takes events from a generator and encodes them for the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from fanbus.events.event import Event

__all__ = ["encoded"]


class _Feed:
    """The task that runs a generator to its end. Timeouts and cancel scopes in a generator need one
    task. It waits until its last event is taken."""

    def __init__(self, events: AsyncIterable[Any]) -> None:
        self.waiting: list[Any] = []
        self.changed = asyncio.Event()
        self.taken = asyncio.Event()
        self.task = asyncio.ensure_future(self._run(aiter(events)))
        self.task.add_done_callback(lambda _: self.changed.set())

    async def _run(self, iterator: AsyncIterator[Any]) -> None:
        try:
            async for event in iterator:
                self.waiting.append(event)
                self.changed.set()
                await self.taken.wait()
                self.taken.clear()
        finally:
            close = getattr(iterator, "aclose", None)
            if close is not None:
                await close()

    async def close(self) -> None:
        """Cancels the generator where it waits, and waits until it has ended."""
        if not self.task.done():
            self.task.cancel()
            await asyncio.wait({self.task})


async def encoded(
    events: AsyncIterable[Any], retry: float | None, ping_interval: float
) -> AsyncIterator[bytes]:
    """The encoded events, and a comment after each `ping_interval` seconds without an event."""
    # It is sent with the first event: some clients read a separate block as an event.
    prefix = b"" if retry is None else f"retry: {round(retry * 1000)}\n".encode()
    loop = asyncio.get_running_loop()
    feed = _Feed(events)
    try:
        while True:
            ping = loop.call_later(ping_interval, feed.changed.set)
            try:
                await feed.changed.wait()
            finally:
                ping.cancel()
            feed.changed.clear()
            if feed.waiting:
                event = feed.waiting.pop()
                yield prefix + (event if isinstance(event, Event) else Event(event)).encode()
                prefix = b""
                feed.taken.set()
            elif feed.task.done():
                feed.task.result()  # raises the exception of the generator
                return
            else:
                yield b":\n\n"
    finally:
        await feed.close()
