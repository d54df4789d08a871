"""The thread pool that runs synchronous functions, so that none blocks the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from typing import Any, Final, Protocol

__all__ = ["HOOKS", "STREAMS", "Lane", "Pool"]

STREAMS: Final = 40
"""The maximum number of synchronous iterators that run at a time in one worker; others wait."""
HOOKS: Final = 8
"""The maximum number of synchronous hooks of one route that run at a time in one worker; others
wait."""


class Lane(Protocol):
    """`_core.Lane`: threads for one kind of function, as many as are useful with the GIL."""

    def post(self, call: Callable[[], object], /) -> bool:
        """Calls the function on a thread. False: the threads call no more functions."""


class Pool:
    """The threads of a lane, for coroutines."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def run(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """The result of the function, which runs on a thread with the caller's context variables.

        If this is cancelled before the function has begun, the function is not called.
        """
        context = contextvars.copy_context()
        call = _Call(functools.partial(context.run, function, *arguments, **named))
        if not self._lane.post(call):
            raise RuntimeError("The worker ends: its threads call no more functions.")
        return await call.outcome


class _Call:
    """A function that a thread calls for a coroutine."""

    __slots__ = ("_function", "_loop", "outcome")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[Any] = self._loop.create_future()

    def __call__(self) -> None:
        """Calls the function. It runs on a thread."""
        if self.outcome.cancelled():
            return
        result: Any = None
        failure: BaseException | None = None
        try:
            result = self._function()
        except StopIteration as error:
            # A future refuses a StopIteration, and its coroutine would wait forever. As in a
            # coroutine (PEP 479), a RuntimeError takes its place.
            failure = RuntimeError("A function on a thread raised StopIteration.")
            failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - raised again where the outcome is awaited
            failure = error
        try:
            self._loop.call_soon_threadsafe(self._end, result, failure)
        except RuntimeError:  # the loop is closed: no coroutine waits
            return

    def _end(self, result: Any, failure: BaseException | None) -> None:
        if self.outcome.done():  # cancelled meanwhile
            return
        if failure is None:
            self.outcome.set_result(result)
        else:
            self.outcome.set_exception(failure)
