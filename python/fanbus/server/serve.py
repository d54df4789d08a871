"""The start of a server: it settles the options, checks the application and starts the processes.

Every failure before the first request is a StartError whose message names the remedy.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanbus.config import OPTIONS, Settings
from fanbus.exceptions import FanbusError, StartError
from fanbus.options import files
from fanbus.options.sources import Value, resolve
from fanbus.runtime import logs, signals, stdio, worker_process
from fanbus.runtime.access_log import compile_format
from fanbus.runtime.tls import check_tls
from fanbus.server import banner, file_limit, process_setup
from fanbus.server.reload import check, start_command
from fanbus.server.server_bus import ServerBus
from fanbus.server.sockets import remove_socket

if TYPE_CHECKING:
    from fanbus.runtime.application import Application

__all__ = ["importing", "is_importing", "run_with", "serve", "settle"]

_importing: ContextVar[bool] = ContextVar("_importing", default=False)


@contextmanager
def importing() -> Iterator[None]:
    """The block in which the command imports an application: `app.run()` does nothing in it."""
    token = _importing.set(True)
    try:
        yield
    finally:
        _importing.reset(token)


def is_importing() -> bool:
    """Whether the command is importing the application now."""
    return _importing.get()


def settle(given: Mapping[str, Any], *, origin: str) -> tuple[Settings, dict[str, Value]]:
    """The settings in force, and the source of each value. StartError for an invalid value."""
    values = resolve(
        OPTIONS,
        given=given,
        origin=origin,
        environment=os.environ,
        file=files.read(Path.cwd()),
    )
    settings = Settings.of(
        {name: found.value for name, found in values.items()},
        single_process=os.environ.get("FANBUS_SINGLE_PROCESS", "") in ("1", "true", "yes"),
    )
    return settings, values


def run_with(app: Application, given: Mapping[str, Any]) -> None:
    """Serves for `app.run`. A StartError ends the process with its message and status."""
    stdio.open_missing()
    try:
        for name in ("app_dir", "factory"):
            if given.get(name) is not None:
                raise StartError(
                    f"{name} is an option of `fanbus run` only: app.run runs its own application.",
                    status=2,
                )
        settings, values = settle(given, origin="app.run")
        process_setup.change_directory_and_load_env(settings)
        serve(app, settings, values)
    except StartError as error:
        stdio.say(f"fanbus: {error}\n")
        raise SystemExit(error.status) from None


def serve(app: Application, settings: Settings, values: Mapping[str, Value]) -> None:
    """Serves `app` until a signal ends the server. StartError if the server cannot start."""
    settings = settings.anchored()
    logs.configure(settings)
    compile_format(settings.access_log_format)  # finds mistakes before the first fork
    if threading.current_thread() is not threading.main_thread():
        raise StartError(
            "run() works in the main thread only, because signals arrive there. "
            "Start Fanbus from the main thread."
        )
    check_tls(settings)
    warnings = _check(app)
    check.report_success()
    signals.quieten()
    file_limit.raise_limit()
    if start_command.serve_instead is not None:
        start_command.serve_instead(app, settings)
    requested = values["workers"].value
    if settings.debug and requested > 1:
        logs.logger.info("debug=True: one worker instead of %d.", requested)
    for warning in warnings:
        logs.logger.warning("%s", warning)
    with process_setup.pid_file(process_setup.own_pid_file(settings)):
        try:
            if settings.single_process:
                from fanbus.server import single

                _announce_single_process()
                single.serve(app, settings)
            else:
                _supervise(app, settings)
        finally:
            remove_socket(settings)


def _supervise(app: Application, settings: Settings) -> None:
    from fanbus.server.supervisor import Supervisor

    def announce(port: int) -> None:
        banner.show(settings, port, app.handler_counts(), os.getpid())

    Supervisor(
        settings,
        bus=ServerBus(app.name, app.retention_rules, settings),
        run_worker=partial(worker_process.main, app, settings),
        on_ready=announce,
    ).run()


def _check(app: Application) -> Sequence[str]:
    """Warnings for the log. StartError if the application cannot be served."""
    try:
        return app.check()
    except FanbusError as error:
        raise StartError(str(error), status=2) from None


def _announce_single_process() -> None:
    logs.logger.info("Serving in a single process (FANBUS_SINGLE_PROCESS=1).")
