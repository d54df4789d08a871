"""The single process that serves without a supervisor, with FANBUS_SINGLE_PROCESS=1.

It checks its bus as a supervisor does. If the bus is lost, the application ends in order and starts
again in the same process, on another bus and the same listener.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

from fanbus.runtime import worker
from fanbus.runtime.logs import logger
from fanbus.server import banner
from fanbus.server.server_bus import ServerBus
from fanbus.server.sockets import open_listeners

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from fanbus.config import Settings
    from fanbus.runtime.application import Application

__all__ = ["serve"]

_END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)

_CHECK_INTERVAL_S = 1.0


def serve(app: Application, settings: Settings) -> None:
    """Serves in this process until SIGINT, SIGTERM or SIGQUIT."""
    if settings.reload:
        logger.warning("A single process does not reload: start it again when a file changes.")
    port, (listener,) = open_listeners(settings)
    try:
        _SingleProcess(app, settings, port, listener).serve()
    finally:
        os.close(listener)


class _SingleProcess:
    """A worker that is started again whenever its bus is lost."""

    def __init__(self, app: Application, settings: Settings, port: int, listener: int) -> None:
        self._app = app
        self._settings = settings
        self._port = port
        self._listener = listener
        self._has_served = False
        self._must_end = False

    def serve(self) -> None:
        """Serves until a signal arrives."""
        while True:
            bus = ServerBus(self._app.name, self._app.retention_rules, self._settings)
            core = bus.open(self._port)
            monitor = _BusMonitor(bus)
            try:
                worker.serve(
                    self._app,
                    self._settings,
                    core,
                    os.dup(self._listener),  # connections wait in its queue while there is no bus
                    end_on=_END_SIGNALS,
                    also={signal.SIGHUP: _warn_about_reload},
                    on_ready=lambda *_: self._on_ready(),
                    on_end=lambda loop, end: self._on_begin(loop, end, monitor),  # noqa: B023
                    private=(self._listener,),
                )
            finally:
                monitor.end()
                bus.close(is_lost=monitor.has_lost_bus)
            if self._must_end or not monitor.has_lost_bus:
                return

    def _on_begin(
        self, loop: AbstractEventLoop, end: Callable[[], None], monitor: _BusMonitor
    ) -> None:
        monitor.begin(loop, end)
        # After the signal handlers of the loop, which are set next.
        loop.call_soon(self._note_signals, end)

    def _note_signals(self, end: Callable[[], None]) -> None:
        """Notes signals in addition to the loop, which ignores them once it has stopped.

        A signal at that moment must not be lost, or the server would go on with another bus.
        """
        for number in _END_SIGNALS:
            signal.signal(number, self._on_signal)
        if self._must_end:
            end()

    def _on_signal(self, *_: object) -> None:
        self._must_end = True

    def _on_ready(self) -> None:
        if self._has_served:
            logger.info("The server is ready again, on another bus.")
        else:
            banner.show(self._settings, self._port, self._app.handler_counts(), os.getpid())
        self._has_served = True


class _BusMonitor:
    """The monitor that checks the bus while a loop runs, and ends the worker if the bus is lost.

    It has its own thread: a timer that is always set costs asyncio's loop a clock reading in each
    turn.
    """

    def __init__(self, bus: ServerBus) -> None:
        self.has_lost_bus = False
        self._bus = bus
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, loop: AbstractEventLoop, end: Callable[[], None]) -> None:
        """Begins the checks. `end` is called on the loop if the bus is lost."""
        self._thread = threading.Thread(
            target=self._check, args=(loop, end), name="fanbus-bus-watch", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Ends the checks. The bus is not used any more when this returns."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def _check(self, loop: AbstractEventLoop, end: Callable[[], None]) -> None:
        while not self._is_over.wait(_CHECK_INTERVAL_S):
            fault = self._bus.fault()
            if fault is not None:
                with contextlib.suppress(
                    RuntimeError
                ):  # the loop is closed: the worker ends anyway
                    loop.call_soon_threadsafe(self._lose_bus, fault, end)
                return

    def _lose_bus(self, fault: str, end: Callable[[], None]) -> None:
        self._bus.remove(fault, "the application starts again in this process")
        self.has_lost_bus = True
        end()


def _warn_about_reload() -> None:
    logger.warning("A single process does not reload: start it again for new code.")
