"""One process without a supervisor: with FANBUS_SINGLE_PROCESS=1.

It looks after its bus as a supervisor does: if the bus is lost, the application ends in order and
starts again in the same process, on another bus and the same listener.
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
from fanbus.server.resources import leave_bus, open_bus, retains_history
from fanbus.server.sockets import open_listeners

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from fanbus import _core
    from fanbus.config import Settings
    from fanbus.runtime.application import Application

__all__ = ["serve"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)

# Between two looks at the bus.
_LOOK_S = 1.0


def serve(app: Application, settings: Settings) -> None:
    """Serves in this process until SIGINT, SIGTERM or SIGQUIT."""
    if settings.reload:
        logger.warning("A single process does not reload: start it again when a file changes.")
    port, (listener,) = open_listeners(settings)
    try:
        _Single(app, settings, port, listener).serve()
    finally:
        os.close(listener)


class _Single:
    """An application that is served on one bus after the other."""

    def __init__(self, app: Application, settings: Settings, port: int, listener: int) -> None:
        self._app = app
        self._settings = settings
        self._port = port
        self._listener = listener
        self._has_served = False
        self._is_told_to_end = False

    def serve(self) -> None:
        """Until a signal comes."""
        while True:
            rules = self._app.retention_rules
            bus = open_bus(self._app.name, rules, self._settings, self._port)
            watch = _BusWatch(bus)
            try:
                worker.serve(
                    self._app,
                    self._settings,
                    bus,
                    os.dup(self._listener),  # connections wait in it while no bus is there
                    end_on=_ENDING,
                    also={signal.SIGHUP: _cannot_reload},
                    on_ready=lambda *_: self._is_ready(),
                    on_end=lambda loop, end: self._begin(loop, end, watch),  # noqa: B023
                    private=(self._listener,),
                )
            finally:
                watch.end()
                if watch.has_lost_bus:
                    bus.close()
                else:
                    leave_bus(bus, keeps=retains_history(rules))
            if self._is_told_to_end or not watch.has_lost_bus:
                return

    def _begin(self, loop: AbstractEventLoop, end: Callable[[], None], watch: _BusWatch) -> None:
        watch.begin(loop, end)
        # Behind the loop's own handlers of signals, which are set next.
        loop.call_soon(self._note_signals, end)

    def _note_signals(self, end: Callable[[], None]) -> None:
        """The loop begins the end when a signal comes, and does not once it is left. A signal that
        comes then must not be lost, or the server would go on with another bus."""
        for number in _ENDING:
            signal.signal(number, self._on_signal)
        if self._is_told_to_end:
            end()

    def _on_signal(self, *_: object) -> None:
        self._is_told_to_end = True

    def _is_ready(self) -> None:
        if self._has_served:
            logger.info("The server is ready again, on another bus.")
        else:
            banner.show(self._settings, self._port, self._app.handler_counts(), os.getpid())
        self._has_served = True


class _BusWatch:
    """Looks after the bus while a loop runs, and ends the loop's work if the bus is lost.

    It looks on a thread of its own: a timer that is always set costs asyncio's loop a look at the
    clock in each turn.
    """

    def __init__(self, bus: _core.Bus) -> None:
        self.has_lost_bus = False
        self._bus = bus
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, loop: AbstractEventLoop, end: Callable[[], None]) -> None:
        """From now on. `end` is called on the loop if the bus is lost."""
        self._thread = threading.Thread(
            target=self._look, args=(loop, end), name="fanbus-bus-watch", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """The bus is not looked at any more when this returns."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self, loop: AbstractEventLoop, end: Callable[[], None]) -> None:
        while not self._is_over.wait(_LOOK_S):
            fault = self._bus.fault()
            if fault is not None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: it ends anyway
                    loop.call_soon_threadsafe(self._lose, fault, end)
                return

    def _lose(self, fault: str, end: Callable[[], None]) -> None:
        logger.error(
            "The bus %r %s while the server runs. A new bus is created: clients of WebSockets and "
            "event streams are closed, and the application starts again in this process.",
            self._bus.name,
            fault,
        )
        # Whoever has it open is told, so that nobody publishes to the half that stays.
        self._bus.remove()
        self.has_lost_bus = True
        end()


def _cannot_reload() -> None:
    logger.warning("A single process does not reload: start it again for new code.")
