"""The lifespan of an application: functions before a worker's first request and after its last one.

All functions run on the worker's event loop, in its main thread. `def` functions do too, since
objects that they create (for example a database connection) are often bound to their thread.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from fanbus.exceptions import STARTING_FAILED, StartError
from fanbus.runtime.logs import log_error, logger

__all__ = ["Running"]


class Running:
    """The lifespan of an application in one worker."""

    def __init__(
        self,
        state: dict[str, Any],
        manager: AbstractAsyncContextManager[Any] | None,
        startup: list[Callable[[], Any]],
        shutdown: list[Callable[[], Any]],
    ) -> None:
        self._state = state
        self._manager = manager
        self._startup = startup
        self._shutdown = shutdown
        self._stack = AsyncExitStack()
        self._begun = False
        self._beginning: asyncio.Task[None] | None = None

    async def begin(self) -> bool:
        """Starts the application. False: `cancel` was called during the start.

        StartError, with the traceback, if a function raises.
        """
        self._beginning = asyncio.ensure_future(self._begin())
        try:
            await self._beginning
        except asyncio.CancelledError:
            return False
        finally:
            self._beginning = None
        return True

    def cancel(self) -> bool:
        """Stops a running start. False: there is none."""
        if self._beginning is None:
            return False
        self._beginning.cancel()
        return True

    def end(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        """Ends the application within the time, if it has started. Exceptions are logged."""
        if not self._begun:
            return
        self._begun = False
        try:
            loop.run_until_complete(asyncio.wait_for(self._end(), timeout=limit_s))
        except asyncio.TimeoutError:
            logger.warning("The application's shutdown did not end within %.2g s.", limit_s)
        except RuntimeError:  # a second signal stopped the loop
            logger.warning("The application's shutdown was cut short.")

    async def _begin(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                if self._manager is not None:
                    given = await stack.enter_async_context(self._manager)
                    if isinstance(given, dict):
                        self._state.update(given)
                for function in self._startup:
                    await _call(function)
                self._stack = stack.pop_all()
        except (Exception, SystemExit):  # noqa: BLE001 - raised again as StartError
            # The caller that ends the server writes this message and the traceback, once.
            raise StartError(
                f"The application cannot start:\n{traceback.format_exc().rstrip()}",
                status=STARTING_FAILED,
            ) from None
        self._begun = True

    async def _end(self) -> None:
        for function in self._shutdown:
            try:
                await _call(function)
            except Exception as error:  # noqa: BLE001 - logged
                log_error("on_shutdown", error)
        try:
            await self._stack.aclose()
        except Exception as error:  # noqa: BLE001 - logged
            log_error("the end of lifespan", error)


async def _call(function: Callable[[], Any]) -> None:
    result = function()
    if inspect.isawaitable(result):
        await result
