"""From an application to a running server: settings, listeners, bus, and who serves.

Knows what can go wrong before the first request, and says it in a sentence.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from fanbus import _core, logs
from fanbus.config import Settings
from fanbus.exceptions import StartError

if TYPE_CHECKING:
    from fanbus.app import Fanbus

__all__ = [
    "check_tls",
    "importing",
    "is_importing",
    "leave_bus",
    "open_bus",
    "open_listeners",
    "open_tls",
    "run",
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


def run(
    app: Fanbus,
    *,
    host: str,
    port: int,
    workers: int | None,
    debug: bool,
    bus_size: int | str | None = None,
    history_size: int | str | None = None,
    ssl_certfile: str | os.PathLike[str] | None = None,
    ssl_keyfile: str | os.PathLike[str] | None = None,
    ssl_keyfile_password: str | None = None,
    ssl_ca_certs: str | os.PathLike[str] | None = None,
) -> None:
    """Serves `app` until it is told to end. What hinders the start ends the process instead."""
    logs.configure()
    try:
        settings = Settings.of(
            host=host,
            port=port,
            workers=workers,
            debug=debug,
            bus_size=bus_size,
            history_size=history_size,
            ssl_certfile=ssl_certfile,
            ssl_keyfile=ssl_keyfile,
            ssl_keyfile_password=ssl_keyfile_password,
            ssl_ca_certs=ssl_ca_certs,
            on_linux=sys.platform == "linux",
        )
        if threading.current_thread() is not threading.main_thread():
            raise StartError(
                "run() works in the main thread only, because signals arrive there. "
                "Start Fanbus from the main thread."
            )
        if debug and workers is not None and workers > 1:
            logs.logger.info("debug=True: one worker instead of %d.", workers)
        if settings.single_process:
            from fanbus.single import serve

            _announce_single_process()
            serve(app, settings)
        else:
            from fanbus.supervisor import Supervisor

            Supervisor(app, settings).run()
    except StartError as error:
        sys.stderr.write(f"fanbus: {error}\n")
        sys.stderr.flush()
        raise SystemExit(error.status) from None


def open_tls(settings: Settings) -> _core.Tls | None:
    """What the files of TLS hold now, checked. None: the server speaks plain HTTP."""
    if settings.ssl_certfile is None:
        return None
    try:
        return _core.Tls(
            settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
            ssl_keyfile_password=settings.ssl_keyfile_password,
            ssl_ca_certs=settings.ssl_ca_certs,
        )
    except ValueError as error:  # its text is a sentence that names the option
        raise StartError(str(error)) from None


def check_tls(settings: Settings) -> None:
    """Before all else: StartError for files that cannot be used, a log line for what is odd."""
    tls = open_tls(settings)
    for warning in tls.warnings if tls else ():
        logs.logger.warning("%s", warning)


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
    """The server's bus, named after the application and its port, with the application's rules."""
    try:
        bus = _core.Bus.open(
            f"{app.name}-{port}",
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
