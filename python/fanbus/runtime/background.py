"""The background functions that run after a response: `request.after_response(function, ...)`.

The functions of one request run one after the other, functions of several requests at the same
time. `async def` runs on the event loop, `def` on a thread. The shutdown of the worker waits for
them.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fanbus.parameters.signature import is_async_itself
from fanbus.runtime.logs import log_error, logger
from fanbus.runtime.thread_pool import Pool

__all__ = ["Background"]

# The maximum number of requests whose functions have not ended, in one worker.
_MAX_REQUESTS = 16_384

_Task = tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any] | None]


class Background:
    """The background functions of one worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: Pool) -> None:
        self._loop = loop
        self._pool = pool
        self._running: set[asyncio.Task[None]] = set()
        self._is_over = False

    def start(
        self, label: str, tasks: Sequence[_Task], context: contextvars.Context | None = None
    ) -> None:
        """Starts the functions of one request, with these context variables, else with those of the
        caller. Any thread may call it."""
        try:
            self._loop.call_soon_threadsafe(self._begin, label, tasks, context=context)
        except RuntimeError:  # the loop is closed
            logger.error(
                "%d functions after %s were not called: the worker ends.", *_of(tasks, label)
            )

    def finish(self, limit_s: float) -> None:
        """Waits for all functions, within the time. Then the running ones are cancelled, and this
        is logged."""
        try:
            self._loop.run_until_complete(asyncio.wait_for(self._wait(), timeout=limit_s))
        except (asyncio.TimeoutError, RuntimeError):
            logger.error(
                "Functions after %d responses did not end in %.2g s and were left.",
                len(self._running),
                limit_s,
            )
        self._is_over = True

    async def _wait(self) -> None:
        await asyncio.sleep(0)  # functions that other threads have started are on the loop now
        while self._running:
            await asyncio.wait(self._running)

    def _begin(self, label: str, tasks: Sequence[_Task]) -> None:
        if self._is_over or len(self._running) >= _MAX_REQUESTS:
            why = "the worker ends" if self._is_over else f"{_MAX_REQUESTS} others wait already"
            logger.error("%d functions after %s were not called: %s.", *_of(tasks, label), why)
            return
        task = self._loop.create_task(self._run(label, tasks))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, label: str, tasks: Sequence[_Task]) -> None:
        for function, arguments, named in tasks:
            try:
                if is_async_itself(function):
                    await function(*arguments, **(named or {}))
                    continue
                result = await self._pool.run(function, *arguments, **(named or {}))
                if asyncio.iscoroutine(result):  # of a plain decorator around an `async def`
                    await result
            except Exception as error:  # noqa: BLE001 - logged
                log_error(f"after {label}", error)


def _of(tasks: Sequence[_Task], label: str) -> tuple[int, str]:
    return len(tasks), label
