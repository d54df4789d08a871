"""The producer that fills a streamed response from an iterator, asynchronous or not.

It takes the next chunk only while the client reads (128 KiB may wait). When the client disconnects,
an asynchronous generator is cancelled where it waits, and any other is closed before its next
chunk: their `finally` runs. Both are closed without a call if the client disconnects before the
first chunk. If an iterator raises, the connection is reset, so that the client notices.
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

# The producers that have not ended, with their loop, their label and their start.
_running: dict[Producer, tuple[asyncio.AbstractEventLoop, str, float]] = {}


class Producer(Protocol):
    """The producer of a stream, as Rust calls it on the event loop."""

    def room(self) -> None:
        """The stream has capacity again."""

    def over(self) -> None:
        """The stream has ended: no client reads it any more. Called once for each stream."""


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
    """Begins to fill `sink`. The iterator has the context variables of its handler.

    `context` is the context of a handler on a thread. Without one, the caller is the task of the
    handler on the event loop. This task must run the returned coroutine, if there is one; then no
    chunk waits for another turn of the loop. `trailers` are read when the iterator has ended.
    Synchronous iterators run on threads of the lane.
    """
    if isinstance(iterator, AsyncIterator):
        on_loop = _LoopProducer(iterator, trailers, sink, on_error, label)
        _running[on_loop] = (loop, label, time.monotonic())
        if context is None:
            return on_loop, on_loop.run()
        loop.call_soon_threadsafe(on_loop.begin, context=context)
        return on_loop, None
    # A copy: only one thread at a time can enter a context, and the functions after the response
    # run in the context of the handler.
    context = contextvars.copy_context() if context is None else context.copy()
    on_threads = _ThreadProducer(iterator, trailers, sink, loop, on_error, label, context, lane)
    _running[on_threads] = (loop, label, time.monotonic())
    on_threads.begin()
    return on_threads, None


def under_way(loop: asyncio.AbstractEventLoop) -> list[tuple[str, int, float]]:
    """The streams of this loop whose iterators have not ended: for each label their number, and the
    age of the oldest one in seconds."""
    now = time.monotonic()
    by_label: dict[str, tuple[int, float]] = {}
    for its_loop, label, since in list(_running.values()):
        if its_loop is loop:
            count, oldest_s = by_label.get(label, (0, 0.0))
            by_label[label] = (count + 1, max(oldest_s, now - since))
    return [(label, count, oldest_s) for label, (count, oldest_s) in by_label.items()]


class _LoopProducer:
    """The producer that runs an asynchronous iterator in a task: the handler's, if it has one."""

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
        self._is_iterating = False

    def begin(self) -> None:
        """Runs in a task of its own. The loop has only a weak reference to it."""
        self._task = asyncio.get_running_loop().create_task(self.run())

    def room(self) -> None:
        self._room.set()

    def over(self) -> None:
        # A task that is cancelled before its first step never runs, and would not close the
        # iterator. A task that is closing it is not cancelled.
        if self._task is not None and self._is_iterating:
            self._task.cancel()

    async def run(self) -> None:
        failed = True
        self._task = asyncio.current_task()
        self._is_iterating = True
        try:
            if not self._sink.is_over():
                await self._iterate()
            _set_trailers(self._sink, self._trailers)
            failed = False
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - logged
            self._on_error(self._label, error)
        finally:
            self._is_iterating = False
            self._sink.end(failed)
            try:
                await self._close()
            finally:
                _running.pop(self, None)

    async def _iterate(self) -> None:
        async for chunk in self._iterator:
            if self._sink.write(chunk):
                continue
            if self._sink.is_over():
                return
            if not self._sink.is_full():
                await asyncio.sleep(0)  # the client reads fast: other tasks run
            while self._sink.is_full():
                self._room.clear()
                await self._room.wait()

    async def _close(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is None:
            return
        try:
            await close()
        except Exception as error:  # noqa: BLE001 - logged
            self._on_error(self._label, error)


class _ThreadProducer:
    """The producer that runs an iterator on a thread, as long as the stream has capacity.

    Once it has begun, only the event loop changes its state.
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
        """Begins on any thread, before the loop has a reference to it."""
        self._run(self._iterate)

    def room(self) -> None:
        if self._is_running or self._is_over or self._is_at_its_end:
            return
        if not self._sink.is_full():  # the notice may be older than the last chunk
            self._run(self._iterate)

    def over(self) -> None:
        self._is_over = True
        if not self._is_running and not self._is_at_its_end:
            self._run(self._close)

    def _run(self, work: Callable[[], bool]) -> None:
        self._is_running = True
        self._lane.post(lambda: self._do(work))

    def _do(self, work: Callable[[], bool]) -> None:
        """Runs the work on a thread."""
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
        elif not self._sink.is_full():  # it has capacity again, or the thread has had its turn
            self._run(self._iterate)

    def _iterate(self) -> bool:
        """Runs on a thread. Returns whether the iterator has ended."""
        try:
            for chunk in self._iterator:
                if not self._sink.write(chunk):
                    return False
            _set_trailers(self._sink, self._trailers)
        except BaseException as error:  # noqa: BLE001 - logged
            self._sink.end(True)
            self._on_error(self._label, error)
        else:
            self._sink.end(False)
        return True

    def _close(self) -> bool:
        """Runs on a thread, and with it the `finally` of a generator."""
        try:
            close = getattr(self._iterator, "close", None)
            if close is not None:
                close()
        except BaseException as error:  # noqa: BLE001 - logged
            self._on_error(self._label, error)
        return True


def _set_trailers(sink: Sink, trailers: Trailers) -> None:
    """Reads the trailers after the end of the iterator, unless the client has disconnected."""
    if trailers is None or sink.is_over():
        return
    lines = trailers() if callable(trailers) else trailers
    if isinstance(lines, Coroutine):
        lines.close()
        raise TypeError("trailers must be a plain function, got an async one: use def.")
    sink.set_trailers(lines)
