"""What a server holds beside its processes: its bus and the file with its process ID."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

from fanbus import _core
from fanbus.exceptions import StartError
from fanbus.runtime import logs
from fanbus.server import process_setup
from fanbus.server.reload import reexec
from fanbus.server.rolling_restart import MOST_LEAVING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fanbus.config import Settings
    from fanbus.history import RetentionRule

__all__ = ["join_bus", "leave_bus", "mebibytes", "open_bus", "own_pid_file", "retains_history"]

# What the rings and the history of a bus have if nothing else is asked for and /dev/shm has room.
_USUAL_BYTES = 8 * 2**20


def own_pid_file(settings: Settings) -> str | None:
    """None if a life of this process before a reload has written it, and then became a user who may
    not. The number in it is still right."""
    name = settings.pid_file
    if reexec.handed_over_state() is not None and name is not None and not os.access(name, os.W_OK):
        return None
    return name


def open_bus(
    application_name: str,
    rules: Sequence[RetentionRule],
    settings: Settings,
    port: int,
    *,
    joined: int = 0,
) -> _core.Bus:
    """Opens the bus of the server, with retention rules and places for the server's processes.

    Its name is that of the application and the place of the server, unless the settings have a
    name. The process becomes `user` first, and the bus belongs to that user. `joined` workers from
    before a reload have the bus open.
    """
    process_setup.drop_privileges(settings)
    name = settings.bus_name or f"{application_name}-{_place(settings, port)}"
    try:
        bus = join_bus(name, settings, keeps=retains_history(rules), joined=joined)
        for rule in rules:
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


def retains_history(rules: Iterable[RetentionRule]) -> bool:
    """Whether the bus stays when the server has ended."""
    return any(rule.history for rule in rules)


def leave_bus(bus: _core.Bus, *, keeps: bool) -> None:
    """The end of a server. Its bus goes, unless the application keeps some of it, or another
    process has it open: that one would publish to nobody for ever, and the next start joins it."""
    if not keeps:
        bus.remove_if_unused()
    bus.close()
