"""From an application to a running server: settings, listeners, bus, and who serves.

Knows what can go wrong before the first request, and says it in a sentence.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanbus import _core, descriptors, logs, origin, probe, rebirth, signals, streams, surroundings
from fanbus.access import compile_format
from fanbus.config import OPTIONS, Settings
from fanbus.exceptions import FanbusError, StartError
from fanbus.listeners import open_listeners, remove_socket
from fanbus.options import files
from fanbus.options.sources import Value, resolve
from fanbus.rolling import MOST_LEAVING

if TYPE_CHECKING:
    from fanbus.app import Fanbus

__all__ = [
    "check_document",
    "check_tls",
    "importing",
    "is_importing",
    "join_bus",
    "keeps_history",
    "leave_bus",
    "open_bus",
    "open_listeners",
    "open_tls",
    "own_pid_file",
    "remove_socket",
    "run_with",
    "serve",
    "settle",
]

# What the rings and the history of a bus have if nothing else is asked for and /dev/shm has room.
_USUAL_BYTES = 8 * 2**20

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
        single_process=os.environ.get("FANBUS_SINGLE_PROCESS", "") in ("1", "true", "yes"),
    )
    return settings, values


def run_with(app: Fanbus, given: Mapping[str, Any]) -> None:
    """`app.run`: what hinders the start ends the process, with a sentence."""
    streams.open_missing()
    try:
        for name in ("app_dir", "factory"):
            if given.get(name) is not None:
                raise StartError(
                    f"{name} is an option of `fanbus run` only: app.run runs its own application.",
                    status=2,
                )
        settings, values = settle(given, origin="app.run")
        surroundings.enter(settings)
        serve(app, settings, values)
    except StartError as error:
        streams.say(f"fanbus: {error}\n")
        raise SystemExit(error.status) from None


def serve(app: Fanbus, settings: Settings, values: Mapping[str, Value]) -> None:
    """Serves `app` until it is told to end. StartError for what hinders the start."""
    settings = settings.anchored()
    logs.configure(settings)
    compile_format(settings.access_log_format)  # says what is wrong before the first fork
    if threading.current_thread() is not threading.main_thread():
        raise StartError(
            "run() works in the main thread only, because signals arrive there. "
            "Start Fanbus from the main thread."
        )
    check_tls(settings)
    check_document(app)
    probe.answer()
    signals.quieten()
    descriptors.raise_limit()
    if origin.serve_instead is not None:
        origin.serve_instead(app, settings)
    asked = values["workers"].value
    if settings.debug and asked > 1:
        logs.logger.info("debug=True: one worker instead of %d.", asked)
    for path in app._not_kept():
        logs.logger.warning(
            "The turbo route %s has middleware or before_request around it, which see each "
            "request: its responses are not cached.",
            path,
        )
    with surroundings.pid_file(own_pid_file(settings)):
        try:
            if settings.single_process:
                from fanbus import single

                _announce_single_process()
                single.serve(app, settings)
            else:
                from fanbus.supervisor import Supervisor

                Supervisor(app, settings).run()
        finally:
            remove_socket(settings)


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


def check_document(app: Fanbus) -> None:
    """StartError for an OpenAPI document that is to be served, and cannot be made."""
    if app._openapi is None:
        return
    try:
        app.openapi()
    except FanbusError as error:
        raise StartError(str(error), status=2) from None


def own_pid_file(settings: Settings) -> str | None:
    """None if a life of this process before a reload has written it, and then became a user who may
    not. The number in it is still right."""
    name = settings.pid_file
    if rebirth.inherited() is not None and name is not None and not os.access(name, os.W_OK):
        return None
    return name


def open_bus(app: Fanbus, settings: Settings, port: int, *, joined: int = 0) -> _core.Bus:
    """The server's bus, with the application's rules, and places for the server's processes.

    It is named after the application and its place, unless the settings have a name. The process
    becomes `user` first, to whom the bus then belongs. `joined` workers of a life of this process
    before a reload have the bus open.
    """
    surroundings.become(settings)
    name = settings.bus_name or f"{app.name}-{_place(settings, port)}"
    try:
        bus = join_bus(name, settings, keeps=keeps_history(app), joined=joined)
        for rule in app._kept:
            bus.retain(rule.pattern, rule.history, rule.seconds)
        return bus
    except (OSError, ValueError) as error:  # its text is a sentence that names the remedy
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise StartError(text) from None


def join_bus(name: str, settings: Settings, *, keeps: bool, joined: int) -> _core.Bus:
    """The bus of a server with these settings. BusError says what hinders it."""
    is_supervised = not settings.single_process
    bus = _core.Bus.serve(
        name,
        workers=settings.workers,
        extra_workers=min(settings.workers, MOST_LEAVING) + 1 if is_supervised else 0,
        supervised=is_supervised,
        keeps=keeps,
        joined=joined,
        ring_bytes=settings.bus_size,
        history_bytes=settings.history_size,
    )
    is_another = len(_core.inspect_bus(name)["members"]) == 1  # the one before was lost
    if not joined or is_another:
        _say_if_small(bus, settings, keeps=keeps)
    return bus


def _say_if_small(bus: _core.Bus, settings: Settings, *, keeps: bool) -> None:
    """The sizes of a bus are less than usual, because /dev/shm has no more room."""
    sizes = []
    if settings.bus_size is None and bus.ring_bytes < _USUAL_BYTES:
        sizes.append(
            f"{mebibytes(bus.ring_bytes)} for the newest messages of each worker (bus_size), a "
            "quarter of that for one message"
        )
    if keeps and settings.history_size is None and bus.history_bytes < _USUAL_BYTES:
        sizes.append(f"{mebibytes(bus.history_bytes)} of history (history_size)")
    if sizes:
        logs.logger.info(
            "There is little room in /dev/shm, so the bus has %s. For the usual %s, enlarge "
            "/dev/shm (Docker: --shm-size).",
            ", and ".join(sizes),
            mebibytes(_USUAL_BYTES),
        )


def mebibytes(size: int) -> str:
    """A size that is at least that large, as people write it."""
    return f"{size / 2**20:g} MiB"


def _place(settings: Settings, port: int) -> str:
    """What tells this server from others of the same application, also after a restart."""
    if settings.uds is None:
        return str(port) if port else f"fd{settings.fd or 3}"
    path = os.path.realpath(settings.uds)
    return f"uds-{zlib.crc32(os.fsencode(path)):08x}"


def keeps_history(app: Fanbus) -> bool:
    """Whether the bus of `app` outlives the server."""
    return any(rule.history for rule in app._kept)


def leave_bus(bus: _core.Bus, *, keeps: bool) -> None:
    """The end of a server. Its bus goes, unless the application keeps some of it, or another
    process has it open: that one would publish to nobody for ever, and the next start joins it."""
    if not keeps:
        bus.remove_if_unused()
    bus.close()


def _announce_single_process() -> None:
    logs.logger.info("Serving in a single process (FANBUS_SINGLE_PROCESS=1).")
