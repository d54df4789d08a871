"""The end of a worker that finishes requests in flight, within the grace time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from fanbus.runtime import streaming
from fanbus.runtime.logs import logger

if TYPE_CHECKING:
    from fanbus import _core
    from fanbus.config import Settings
    from fanbus.runtime.lifespan import Running

__all__ = ["EXTRA_GRACE_S", "OrderlyEnd"]

EXTRA_GRACE_S = 1.0
"""The last limit, after the grace time of the I/O thread is over."""

# The interval between two checks for running handlers.
_CHECK_INTERVAL_S = 0.01
# The end logs the handlers that it waits for after this time.
_LOG_AFTER_S = 1.0

# At the end of a server, an idle connection stays open for this long: its client may be about to
# send a request.
_LINGER_S = 0.5


class OrderlyEnd:
    """The end of a worker. The first call begins it, the second one stops the loop at once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        core: _core.Worker,
        running: Running,
        settings: Settings,
        stop: Callable[[], None],
    ) -> None:
        """`stop` ends the run of the loop."""
        self._loop = loop
        self._stop = stop
        self._core = core
        self._running = running
        self._grace_s = settings.timeout_graceful_shutdown
        # After a change of the code, old code must not answer on idle connections.
        self._lingers = not settings.watches_files
        self._linger_s = 0.0
        self._serves = False
        self._end_by: float | None = None
        """The end of the grace time. None: the end has not begun."""
        self._waiting: asyncio.Task[None] | None = None
        """Waits for handlers, after the I/O thread has ended."""
        self._last_resort: asyncio.TimerHandle | None = None
        """Stops the loop if the I/O thread does not report its end."""
        self._log_timer: asyncio.TimerHandle | None = None
        """Logs the handlers that the end waits for."""

    def begin(self) -> None:
        """Begins the end because the server ends."""
        self._begin(_LINGER_S)

    def leave(self) -> None:
        """Begins the end because another worker takes over.

        Idle connections are served for half of the grace time: HTTP/1 has no way to announce to a
        client that its connection will be closed.
        """
        self._begin(self._grace_s / 2)

    def _begin(self, linger_s: float) -> None:
        if self._end_by is not None:
            self._stop()
            return
        self._end_by = self._loop.time() + self._grace_s
        self._linger_s = linger_s if self._lingers else 0.0
        if self._running.cancel():
            return
        if self._serves:
            self._shut_down()

    def has_started(self) -> None:
        """Notes that connections are accepted. A signal may have arrived just before."""
        self._serves = True
        if self._end_by is not None:
            self._shut_down()

    def has_stopped(self) -> None:
        """Notes that the loop has stopped.

        The application's own end runs on the loop afterwards, with its own limits. The timers here
        must not stop it.
        """
        for timer in (self._last_resort, self._log_timer):
            if timer is not None:
                timer.cancel()
        for route, count, oldest_s in self._running_handlers():
            logger.warning(
                "%s of %s did not end in time and %s cut off, after %.1f s.",
                _handlers(count).capitalize(),
                route,
                "is" if count == 1 else "are",
                oldest_s,
            )

    def rest_s(self) -> float:
        """The seconds that the application's own end may take from now on."""
        rest = 0.0 if self._end_by is None else self._end_by - self._loop.time()
        return max(rest, EXTRA_GRACE_S)

    def _shut_down(self) -> None:
        latest_s = self._grace_s + EXTRA_GRACE_S
        self._last_resort = self._loop.call_later(latest_s, self._stop)
        self._log_timer = self._loop.call_later(_LOG_AFTER_S, self._log_running_handlers)
        self._core.shut_down(self._grace_s, self._linger_s, self._io_has_ended)

    def _io_has_ended(self) -> None:
        """All clients are gone. Handlers of clients that left early may still run."""
        self._waiting = self._loop.create_task(self._wait_for_handlers())

    async def _wait_for_handlers(self) -> None:
        assert self._end_by is not None
        while self._core.busy() or streaming.under_way(self._loop):
            if self._loop.time() >= self._end_by:
                break
            await asyncio.sleep(_CHECK_INTERVAL_S)
        self._stop()

    def _log_running_handlers(self) -> None:
        assert self._end_by is not None
        left_s = self._end_by - self._loop.time()
        for route, count, _ in self._running_handlers():
            logger.info(
                "Waiting for %s of %s to end, for %.0f s at most.", _handlers(count), route, left_s
            )

    def _running_handlers(self) -> list[tuple[str, int, float]]:
        """The route, the number of its running handlers, and the seconds since the first began."""
        return [*self._core.running_handlers(), *streaming.under_way(self._loop)]


def _handlers(count: int) -> str:
    return "a handler" if count == 1 else f"{count} handlers"
