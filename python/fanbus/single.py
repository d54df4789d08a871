"""One process without a supervisor: with FANBUS_SINGLE_PROCESS=1."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from fanbus import banner, worker
from fanbus.logs import logger
from fanbus.server import keeps_history, leave_bus, open_bus, open_listeners

if TYPE_CHECKING:
    from fanbus.app import Fanbus
    from fanbus.config import Settings

__all__ = ["serve"]


def serve(app: Fanbus, settings: Settings) -> None:
    """Serves in this process until SIGINT, SIGTERM or SIGQUIT."""
    if settings.reload:
        logger.warning("A single process does not reload: start it again when a file changes.")
    port, (listener,) = open_listeners(settings)
    bus = open_bus(app, settings, port)
    try:
        worker.serve(
            app,
            settings,
            bus,
            listener,
            end_on=(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT),
            also={signal.SIGHUP: _cannot_reload},
            on_ready=lambda *_: banner.show(settings, port, app._counts(), os.getpid()),
        )
    finally:
        leave_bus(bus, keeps=keeps_history(app))


def _cannot_reload() -> None:
    logger.warning("A single process does not reload: start it again for new code.")
