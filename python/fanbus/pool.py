"""Threads for the synchronous functions around handlers, so that none holds up the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

__all__ = ["Pool", "for_future"]


def for_future(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, for a thread whose outcome a future takes.

    A future refuses a StopIteration, and whoever awaits it would wait for ever. As in a coroutine
    (PEP 479), a RuntimeError takes its place.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except StopIteration as error:
            raise RuntimeError("A function on a thread raised StopIteration.") from error

    return call


class Pool:
    """At most so many threads, made when they are first needed: threads do not survive a fork."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What the function gives, with the context variables of who asks."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="fanbus-around")
        context = contextvars.copy_context()
        call = functools.partial(context.run, for_future(function), *arguments, **named)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def close(self) -> None:
        """No more is asked for. What runs is not waited for."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
