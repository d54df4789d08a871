"""A worker's event loop: which one it is, and its run until it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fanbus.exceptions import StartError
from fanbus.runtime.logs import logger

__all__ = ["Run", "loop_factory", "new_event_loop"]


def new_event_loop(kind: str) -> asyncio.AbstractEventLoop:
    """`auto`, `asyncio` or `uvloop`. StartError if uvloop is asked for, and not installed."""
    return loop_factory(kind)()


def loop_factory(kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes it, imported. The workers share what was imported before they were forked."""
    if kind == "asyncio":
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError:
        if kind == "uvloop":
            raise StartError(
                "FANBUS_LOOP=uvloop, but uvloop is not installed: pip install 'fanbus[uvloop]'.",
                status=2,
            ) from None
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class Run:
    """The run of a loop, which no handler ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_stopped = False

    def stop(self) -> None:
        """Ends it. On the loop's thread."""
        self._is_stopped = True
        self._loop.stop()

    def until_stopped(self, begin: Callable[[], Awaitable[None]]) -> None:
        """`begin` is the first thing in it, because uvloop forgets a signal that comes while it has
        a handler and does not run yet. What it raises ends the run."""
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
                # asyncio hands these on to whoever runs the loop. For a server, `sys.exit()` in a
                # handler is a mistake like any other: it has cost its own client the answer.
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
