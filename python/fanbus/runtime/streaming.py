"""What makes the pieces of a streamed response: an iterator, or an asynchronous one.

It is asked for more only while the client takes what is there (128 KiB may wait). When the client
is gone, an asynchronous generator is cancelled where it waits, and any other is closed before its
next piece: their `finally` runs. Both are closed unasked if the client goes before the first piece
is asked for. An iterator that fails breaks the connection off, so that the client knows.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Protocol

from fanbus._core import Sink
from fanbus.runtime.thread_pool import Lane

__all__ = ["start", "under_way"]

OnError = Callable[[str, BaseException], object]

Trailers = Mapping[str, str] | Callable[[], Mapping[str, str] | Iterable[tuple[str, str]]] | None

# Those that have not come to their end, with their loop, their label and their beginning.
_running: dict[Producer, tuple[asyncio.AbstractEventLoop, str, float]] = {}


class Producer(Protocol):
    """What a stream in Rust knows of who makes it. Called on the event loop."""

    def room(self) -> None:
        """There is room again."""

    def over(self) -> None:
        """Nobody takes anything any more. Called once, at the end of every stream."""


def start(
    iterator: Iterator[Any] | AsyncIterator[Any],
    trailers: Trailers,
    sink: Sink,
    loop: asyncio.AbstractEventLoop,
    on_error: OnError,
    label: str,
    context: contextvars.Context | None,
    lane: Lane,
) -> tuple[Producer, Coroutine[Any, Any, None] | None]:
    """Begins to fill `sink`. The iterator finds the context variables as the handler has left them.

    `context` is that of a handler on a thread. Without one this is the event loop, in the task of
    the handler, which has to run the coroutine that is returned, if one is: no piece then waits for
    the loop to come round. `trailers` are read when the iterator has come to its end. What is
    synchronous runs on threads of the lane.
    """
    if isinstance(iterator, AsyncIterator):
        awaited = _Awaited(iterator, trailers, sink, on_error, label)
        _running[awaited] = (loop, label, time.monotonic())
        if context is None:
            return awaited, awaited.run()
        loop.call_soon_threadsafe(awaited.begin, context=context)
        return awaited, None
    # Its own copy: nobody else can enter a context while a thread is in it, and the functions after
    # the response run in that of the handler.
    context = contextvars.copy_context() if context is None else context.copy()
    asked = _Asked(iterator, trailers, sink, loop, on_error, label, context, lane)
    _running[asked] = (loop, label, time.monotonic())
    asked.begin()
    return asked, None


def under_way(loop: asyncio.AbstractEventLoop) -> list[tuple[str, int, float]]:
    """The streams of this loop whose iterators have not come to their end: of each label, how many,
    and how long the oldest one runs, in seconds."""
    now = time.monotonic()
    found: dict[str, tuple[int, float]] = {}
    for its_loop, label, since in list(_running.values()):
        if its_loop is loop:
            count, oldest_s = found.get(label, (0, 0.0))
            found[label] = (count + 1, max(oldest_s, now - since))
    return [(label, count, oldest_s) for label, (count, oldest_s) in found.items()]


class _Awaited:
    """Asks an asynchronous iterator, in a task: the handler's, if it has one."""

    def __init__(
        self,
        iterator: AsyncIterator[Any],
        trailers: Trailers,
        sink: Sink,
        on_error: OnError,
        label: str,
    ) -> None:
        self._iterator = iterator
        self._trailers = trailers
        self._sink = sink
        self._on_error = on_error
        self._label = label
        self._room = asyncio.Event()
        self._task: asyncio.Task[Any] | None = None
        self._is_asking = False

    def begin(self) -> None:
        """In a task of its own, which the loop would forget if nobody else knew it."""
        self._task = asyncio.get_running_loop().create_task(self.run())

    def room(self) -> None:
        self._room.set()

    def over(self) -> None:
        # A task that is cancelled before its first step never takes it, and would not close the
        # iterator. One that closes it already is let do so.
        if self._task is not None and self._is_asking:
            self._task.cancel()

    async def run(self) -> None:
        failed = True
        self._task = asyncio.current_task()
        self._is_asking = True
        try:
            if not self._sink.is_over():
                await self._ask()
            _set_trailers(self._sink, self._trailers)
            failed = False
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is logged
            self._on_error(self._label, error)
        finally:
            self._is_asking = False
            self._sink.end(failed)
            try:
                await self._close()
            finally:
                _running.pop(self, None)

    async def _ask(self) -> None:
        async for piece in self._iterator:
            if self._sink.write(piece):
                continue
            if self._sink.is_over():
                return
            if not self._sink.is_full():
                await asyncio.sleep(0)  # the client takes everything: others have their turn
            while self._sink.is_full():
                self._room.clear()
                await self._room.wait()

    async def _close(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is None:
            return
        try:
            await close()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is logged
            self._on_error(self._label, error)


class _Asked:
    """Asks an iterator, on a thread as long as there is room.

    Once it has begun, its own state is the event loop's.
    """

    def __init__(
        self,
        iterator: Iterator[Any],
        trailers: Trailers,
        sink: Sink,
        loop: asyncio.AbstractEventLoop,
        on_error: OnError,
        label: str,
        context: contextvars.Context,
        lane: Lane,
    ) -> None:
        self._iterator = iterator
        self._trailers = trailers
        self._sink = sink
        self._loop = loop
        self._on_error = on_error
        self._label = label
        self._context = context
        self._lane = lane
        self._is_running = False
        self._is_over = False
        self._is_at_its_end = False

    def begin(self) -> None:
        """On any thread, before the loop knows of it."""
        self._run(self._ask)

    def room(self) -> None:
        if self._is_running or self._is_over or self._is_at_its_end:
            return
        if not self._sink.is_full():  # an older word of room that has been used
            self._run(self._ask)

    def over(self) -> None:
        self._is_over = True
        if not self._is_running and not self._is_at_its_end:
            self._run(self._close)

    def _run(self, work: Callable[[], bool]) -> None:
        self._is_running = True
        self._lane.post(lambda: self._do(work))

    def _do(self, work: Callable[[], bool]) -> None:
        """On a thread."""
        is_at_its_end = self._context.run(work)
        try:
            self._loop.call_soon_threadsafe(self._done, is_at_its_end)
        except RuntimeError:  # the worker has ended meanwhile
            return

    def _done(self, is_at_its_end: bool) -> None:
        self._is_running = False
        self._is_at_its_end = is_at_its_end
        if self._is_at_its_end:
            _running.pop(self, None)
            return
        if self._is_over:
            self._run(self._close)
        elif not self._sink.is_full():  # room was made meanwhile, or the thread has had its turn
            self._run(self._ask)

    def _ask(self) -> bool:
        """On a thread: whether nothing more comes."""
        try:
            for piece in self._iterator:
                if not self._sink.write(piece):
                    return False
            _set_trailers(self._sink, self._trailers)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is logged
            self._sink.end(True)
            self._on_error(self._label, error)
        else:
            self._sink.end(False)
        return True

    def _close(self) -> bool:
        """On a thread: runs what a generator has in its `finally`."""
        try:
            close = getattr(self._iterator, "close", None)
            if close is not None:
                close()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is logged
            self._on_error(self._label, error)
        return True


def _set_trailers(sink: Sink, trailers: Trailers) -> None:
    """Reads them, now that the iterator has come to its end. Nobody needs them if the client has
    gone."""
    if trailers is None or sink.is_over():
        return
    lines = trailers() if callable(trailers) else trailers
    if isinstance(lines, Coroutine):
        lines.close()
        raise TypeError("trailers must be a plain function, got an async one: use def.")
    sink.set_trailers(lines)
