"""The event loop that a worker runs until it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fanbus.exceptions import StartError
from fanbus.runtime.logs import logger

__all__ = ["Run", "loop_factory", "new_event_loop"]


def new_event_loop(kind: str) -> asyncio.AbstractEventLoop:
    """A new loop of the kind `auto`, `asyncio` or `uvloop`. StartError if `uvloop` is not
    installed."""
    return loop_factory(kind)()


def loop_factory(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """The function that makes a loop. It is imported here: workers share the modules that were
    imported before the fork."""
    if kind == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        if kind == "uvloop":
            raise StartError(
                "loop=uvloop needs uvloop, which is not installed: pip install 'fanbus[uvloop]'.",
                status=2,
            ) from None
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class Run:
    """The run of a loop, which exceptions of handlers do not end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_stopped = False

    def stop(self) -> None:
        """Ends the run. The thread of the loop must call it."""
        self._is_stopped = True
        self._loop.stop()

    def until_stopped(self, begin: Callable[[], Awaitable[None]]) -> None:
        """Runs the loop, and `begin` first. uvloop loses a signal that arrives before the loop
        runs, if it has a handler then. An exception of `begin` ends the run."""
        failures: list[BaseException] = []

        async def first() -> None:
            try:
                await begin()
            except BaseException as error:  # noqa: BLE001 - the loop would only log it
                failures.append(error)
                self.stop()

        beginning = self._loop.create_task(first())
        while not self._is_stopped:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                # asyncio raises these in the caller of the loop. For a server, `sys.exit()` in a
                # handler is an error as any other: only its own client gets no response.
                if not beginning.done():
                    raise
                _tell(type(error).__name__)
            else:
                if not self._is_stopped:
                    _tell("loop.stop()")
        if beginning.done() and failures:  # a second signal may have come before
            raise failures[0]


def _tell(what: str) -> None:
    logger.error(
        "%s in a handler or a task: the worker goes on. To end the server, send SIGTERM to its "
        "supervisor.",
        what,
    )
