"""What an application does before a worker's first request, and after its last one.

All of it runs on the worker's event loop, in its main thread: `def` functions too, since what they
make there (a connection to a database, say) is often bound to its thread.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from fanbus.exceptions import StartError
from fanbus.runtime.logs import log_error, logger

__all__ = ["Running"]

# The exit status of an application that cannot start, as uvicorn and gunicorn have it.
_STARTING_FAILED = 3


class Running:
    """One life of an application in one worker."""

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
        """Starts the application. False: `cancel` was called meanwhile, and it has not begun.

        StartError, with the traceback, for what it raises.
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
        """Stops a start that is under way. False: none is."""
        if self._beginning is None:
            return False
        self._beginning.cancel()
        return True

    def end(self, loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
        """Ends what has begun, within the time; what is raised is logged."""
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
        except (Exception, SystemExit):  # noqa: BLE001 - whatever it is, it is told
            # The traceback is all there is to tell: it is told once, by who ends the server.
            raise StartError(
                f"The application cannot start:\n{traceback.format_exc().rstrip()}",
                status=_STARTING_FAILED,
            ) from None
        self._begun = True

    async def _end(self) -> None:
        for function in self._shutdown:
            try:
                await _call(function)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is logged
                log_error("on_shutdown", error)
        try:
            await self._stack.aclose()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is logged
            log_error("the end of lifespan", error)


async def _call(function: Callable[[], Any]) -> None:
    result = function()
    if inspect.isawaitable(result):
        await result
