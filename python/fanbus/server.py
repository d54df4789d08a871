"""From an application to a running server: settings, listeners, bus, and who serves.

Knows what can go wrong before the first request, and says it in a sentence.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanbus import _core, logs, surroundings
from fanbus.config import OPTIONS, Settings
from fanbus.exceptions import StartError
from fanbus.options import files
from fanbus.options.sources import Value, resolve

if TYPE_CHECKING:
    from fanbus.app import Fanbus

__all__ = [
    "importing",
    "is_importing",
    "leave_bus",
    "open_bus",
    "open_listeners",
    "run_with",
    "serve",
    "settle",
]

_importing: ContextVar[bool] = ContextVar("_importing", default=False)


@contextmanager
def importing() -> Iterator[None]:
    """While the command imports an application, the application's own `app.run()` does nothing."""
    token = _importing.set(True)
    try:
        yield
    finally:
        _importing.reset(token)


def is_importing() -> bool:
    """Whether the command is importing the application right now."""
    return _importing.get()


def settle(given: Mapping[str, Any], *, origin: str) -> tuple[Settings, dict[str, Value]]:
    """The settings in force, and where each value came from. StartError for what cannot be."""
    values = resolve(
        OPTIONS,
        given=given,
        origin=origin,
        environment=os.environ,
        file=files.read(Path.cwd()),
    )
    settings = Settings.of(
        {name: found.value for name, found in values.items()},
        on_linux=sys.platform == "linux",
        single_process=os.environ.get("FANBUS_SINGLE_PROCESS", "") in ("1", "true", "yes"),
    )
    return settings, values


def run_with(app: Fanbus, given: Mapping[str, Any]) -> None:
    """`app.run`: what hinders the start ends the process, with a sentence."""
    try:
        for name in ("app_dir", "factory"):
            if given.get(name) is not None:
                raise StartError(
                    f"{name} is an option of `fanbus run`: app.run has its application.", status=2
                )
        settings, values = settle(given, origin="app.run")
        surroundings.enter(settings)
        serve(app, settings, values)
    except StartError as error:
        sys.stderr.write(f"fanbus: {error}\n")
        sys.stderr.flush()
        raise SystemExit(error.status) from None


def serve(app: Fanbus, settings: Settings, values: Mapping[str, Value]) -> None:
    """Serves `app` until it is told to end. StartError for what hinders the start."""
    logs.configure()
    if threading.current_thread() is not threading.main_thread():
        raise StartError(
            "run() works in the main thread only, because signals arrive there. "
            "Start Fanbus from the main thread."
        )
    asked = values["workers"].value
    if settings.debug and asked > 1:
        logs.logger.info("debug=True: one worker instead of %d.", asked)
    with surroundings.pid_file(settings.pid_file):
        if settings.single_process:
            from fanbus import single

            _announce_single_process()
            single.serve(app, settings)
        else:
            from fanbus.supervisor import Supervisor

            Supervisor(app, settings).run()


def open_listeners(settings: Settings) -> tuple[int, list[int]]:
    """One listener per worker, all on one port. Returns the port and the file descriptors."""
    host, port = settings.host, settings.port
    try:
        return _core.bind_listeners(host, port, settings.workers, settings.backlog)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(
                f"Port {port} on {host} is in use by another program. Stop that one, or choose "
                f"another port (port={port + 1 if port < 65535 else 5000})."
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            raise StartError(
                f"This user may not listen on port {port} of {host}. Choose a port from 1024 on, "
                "or give the program the capability CAP_NET_BIND_SERVICE."
            ) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise StartError(
                f"No interface of this machine has the address {host}. Use 127.0.0.1 (this "
                "machine only) or 0.0.0.0 (every interface)."
            ) from None
        if error.errno == errno.EMFILE:
            raise StartError(
                f"Too few file descriptors for {settings.workers} workers. Raise the limit with "
                "`ulimit -n`."
            ) from None
        reason = error.strerror or str(error)
        raise StartError(
            f'Cannot listen on "{host}", port {port}: {reason.rstrip(".")}. Use 127.0.0.1 (this '
            "machine only), 0.0.0.0 (every interface), or a name that this machine can resolve."
        ) from None


def open_bus(app: Fanbus, settings: Settings, port: int) -> _core.Bus:
    """The server's bus, named after the application and its port unless it has a
    name of its own, with the application's rules."""
    try:
        bus = _core.Bus.open(
            settings.bus_name or f"{app.name}-{port}",
            ring_bytes=settings.bus_size,
            history_bytes=settings.history_size,
        )
        for rule in app._kept:
            bus.retain(rule.pattern, rule.history, rule.seconds)
        return bus
    except (OSError, ValueError) as error:  # its text is a sentence that names the remedy
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StartError(text) from None


def leave_bus(app: Fanbus, bus: _core.Bus) -> None:
    """The end of a server. Its bus goes, unless the application keeps some of it."""
    if not any(rule.history for rule in app._kept):
        bus.remove()
    bus.close()


def _announce_single_process() -> None:
    system = {"Darwin": "macOS"}.get(platform.system(), platform.system() or os.name)
    sys.stderr.write(
        f"[fanbus] Starting on {system} (single process).\n"
        "[fanbus] Multi-worker mode needs SO_REUSEPORT (Linux).\n"
    )
    sys.stderr.flush()
