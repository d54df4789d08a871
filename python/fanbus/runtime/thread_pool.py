"""Threads for synchronous functions, so that none holds up the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from typing import Any, Final, Protocol

__all__ = ["HOOKS", "STREAMS", "Lane", "Pool"]

STREAMS: Final = 40
"""Synchronous iterators that may be asked at a time in one worker; further ones wait."""
HOOKS: Final = 8
"""Synchronous hooks of one route that run at a time in one worker; further ones wait."""


class Lane(Protocol):
    """`_core.Lane`: threads for one kind of function, as many as keep Python's lock busy."""

    def post(self, call: Callable[[], object], /) -> bool:
        """Has it called on a thread. False: no more functions are called."""


class Pool:
    """The threads of a lane, for coroutines."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def run(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What the function gives, with the context variables of who asks.

        A function that has not begun when this is cancelled is not called.
        """
        context = contextvars.copy_context()
        call = _Call(functools.partial(context.run, function, *arguments, **named))
        if not self._lane.post(call):
            raise RuntimeError("The worker ends: its threads call no more functions.")
        return await call.outcome


class _Call:
    """A function that a coroutine has called on a thread."""

    __slots__ = ("_function", "_loop", "outcome")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Any] = self._loop.create_future()

    def __call__(self) -> None:
        """On a thread."""
        if self.outcome.cancelled():
            return
        result: Any = None
        failure: BaseException | None = None
        try:
            result = self._function()
        except StopIteration as error:
            # A future refuses it, and whoever awaits that would wait for ever. As in a coroutine
            # (PEP 479), a RuntimeError takes its place.
            failure = RuntimeError("A function on a thread raised StopIteration.")
            failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - it is raised where the outcome is awaited
            failure = error
        try:
            self._loop.call_soon_threadsafe(self._end, result, failure)
        except RuntimeError:  # the loop is closed: nobody waits
            return

    def _end(self, result: Any, failure: BaseException | None) -> None:
        if self.outcome.done():  # cancelled meanwhile
            return
        if failure is None:
            self.outcome.set_result(result)
        else:
            self.outcome.set_exception(failure)
