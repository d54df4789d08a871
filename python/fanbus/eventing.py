"""Event streams (Server-Sent Events) that an asynchronous generator makes: one for each client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fanbus._core import answer_json
from fanbus.headers import header_lines

__all__ = ["Event", "Events"]

_MOST_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream. `data` is a str, or any JSON value; a str is sent as it is.

    `event`: its type, for `addEventListener`; `message` if there is none. `id`: what a browser that
    comes back gives in `Last-Event-ID`. `retry`: seconds after which it comes back.

    Raises ValueError for an `event` or `id` of several lines, an `id` with a NUL, and a `retry`
    that is not a number of seconds up to a day.
    """

    data: Any
    event: str | None = None
    id: str | None = None
    retry: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name, text in (("event", self.event), ("id", self.id)):
            if text is not None and any(character in text for character in "\r\n\0"):
                raise ValueError(f"Event: {name}={text!r} must be one line, without NUL.")
        if self.retry is not None:
            _check_seconds("Event: retry", self.retry)

    def encode(self) -> bytes:
        """The event as it is sent."""
        lines = []
        if self.event is not None:
            lines.append(f"event: {self.event}")
        if self.id is not None:
            lines.append(f"id: {self.id}")
        if self.retry is not None:
            lines.append(f"retry: {round(self.retry * 1000)}")
        text = self.data if isinstance(self.data, str) else answer_json(self.data).decode()
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines += [f"data: {line}" for line in text.split("\n")]
        return ("\n".join(lines) + "\n\n").encode()


class Events:
    """What an asynchronous generator yields, as a stream of events for a browser's `EventSource`.

    ```python
    @app.get("/count")
    async def count():
        async def numbers():
            for number in range(10):
                yield {"number": number}
            yield Event("the end", event="done")

        return Events(numbers())
    ```

    A str is the `data` of an event called `message`; an `Event` says more; any other JSON value is
    sent as JSON. The stream ends where the generator returns. `EventSource` opens an ended stream
    again, unless the page closes it: let the last event say that it is the last one. When the
    client leaves, the generator is cancelled where it waits, and its `finally` runs.

    Behind it: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    __slots__ = ("_events", "_ping_interval", "_retry", "headers", "status")

    def __init__(
        self,
        events: AsyncIterable[Any],
        *,
        retry: float | None = None,
        ping_interval: float = 15.0,
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        """`retry`: seconds after which a browser that has lost the stream opens it again; None: the
        browser decides. `ping_interval`: seconds of silence after which a comment is sent.

        Raises TypeError for what is not an asynchronous iterable, and ValueError for seconds that
        are not a number up to a day.
        """
        if not isinstance(events, AsyncIterable):
            raise TypeError(
                "Events: events must be an asynchronous generator (`async def` with `yield`, "
                f"called), got {type(events).__name__}."
            )
        if retry is not None:
            _check_seconds("Events: retry", retry)
        _check_seconds("Events: ping_interval", ping_interval)
        # nginx would collect the events before it sends them.
        own = {
            "content-type": "text/event-stream",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
        }
        given = header_lines(headers)
        names = {name.lower() for name, _ in given}
        self.headers = given + [pair for pair in own.items() if pair[0] not in names]
        self.status = status
        self._events = events
        self._retry = retry
        self._ping_interval = float(ping_interval)

    def pieces(self) -> AsyncIterator[bytes]:
        """The stream, as it is sent."""
        return _encoded(self._events, self._retry, self._ping_interval)


class _Feed:
    """The generator, run to its end in one task, as timeouts and cancel scopes in it need. It waits
    until its last event is taken."""

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


async def _encoded(
    events: AsyncIterable[Any], retry: float | None, ping_interval: float
) -> AsyncIterator[bytes]:
    if retry is not None:
        yield f"retry: {round(retry * 1000)}\n\n".encode()
    loop = asyncio.get_running_loop()
    feed = _Feed(events)
    try:
        while True:
            silence = loop.call_later(ping_interval, feed.changed.set)
            try:
                await feed.changed.wait()
            finally:
                silence.cancel()
            feed.changed.clear()
            if feed.waiting:
                event = feed.waiting.pop()
                yield (event if isinstance(event, Event) else Event(event)).encode()
                feed.taken.set()
            elif feed.task.done():
                feed.task.result()  # raises what the generator has raised
                return
            else:
                yield b":\n\n"
    finally:
        await feed.close()


def _check_seconds(name: str, seconds: object) -> None:
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0.001 <= seconds <= _MOST_SECONDS:  # type: ignore[operator]
        raise ValueError(f"{name} must be a number of seconds up to a day, got {seconds!r}.")
