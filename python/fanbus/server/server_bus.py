"""The bus that a server opens for its workers, checks while it runs, and closes at its end."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

from fanbus import _core
from fanbus.exceptions import BusError, StartError
from fanbus.runtime import logs
from fanbus.server import process_setup
from fanbus.server.rolling_restart import MOST_LEAVING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fanbus.config import Settings
    from fanbus.history import RetentionRule

__all__ = ["ServerBus"]

# The default sizes of rings and history, if /dev/shm has enough space.
_DEFAULT_BYTES = 8 * 2**20


class ServerBus:
    """The bus of one server."""

    def __init__(
        self,
        name: str,
        rules: Sequence[RetentionRule],
        settings: Settings,
        *,
        retains_history: bool | None = None,
        is_temporary: bool = False,
    ) -> None:
        """`name` is that of the application; the bus adds the place of the server.

        `retains_history`: the bus stays at the end of the server; None: if a rule retains history.
        `is_temporary`: it does not stay in any case.
        """
        self.application_name = name
        self.rules = rules
        self.name: str | None = None
        """The name of the bus, once it has been opened."""
        self._settings = settings
        self._retains_history = retains_history
        self._is_temporary = is_temporary
        self._core: _core.Bus | None = None

    @property
    def core(self) -> _core.Bus:
        """The open bus."""
        assert self._core is not None, "the bus is open before the first worker starts"
        return self._core

    @property
    def identity(self) -> tuple[str, int]:
        """Name and epoch: another bus of this name has another epoch."""
        return self.core.name, self.core.epoch

    @property
    def retains_history(self) -> bool:
        """Whether the bus stays when the server has ended."""
        if self._retains_history is not None:
            return self._retains_history
        return any(rule.history for rule in self.rules)

    def open(self, port: int, *, joined: int = 0) -> _core.Bus:
        """Opens the bus with the retention rules, and reserves places for the worker processes.

        The process changes to `user` first, and the bus belongs to that user. `joined` workers from
        before a reload have the bus open. StartError if the bus cannot be opened.
        """
        settings = self._settings
        process_setup.drop_privileges(settings)
        name = settings.bus_name or f"{self.application_name}-{_place(settings, port)}"
        try:
            core = self.join(name, joined=joined)
            for rule in self.rules:
                core.retain(rule.pattern, rule.history, rule.seconds)
        except (OSError, ValueError) as error:  # its text is a sentence that names the remedy
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise StartError(text) from None
        return core

    def join(self, name: str, *, joined: int = 0) -> _core.Bus:
        """Opens the bus of this name as it is. BusError if it cannot be opened."""
        settings = self._settings
        is_supervised = not settings.single_process
        self._core = core = _core.Bus.serve(
            name,
            workers=settings.workers,
            extra_workers=min(settings.workers, MOST_LEAVING) + 1 if is_supervised else 0,
            supervised=is_supervised,
            keeps=self.retains_history,
            joined=joined,
            ring_bytes=settings.bus_size,
            history_bytes=settings.history_size,
        )
        self.name = name
        is_new = len(_core.inspect_bus(name)["members"]) == 1  # the bus from before was lost
        if not joined or is_new:
            self._log_small_sizes(core)
        return core

    def fault(self) -> str | None:
        """Why the bus is unusable: it was removed, damaged, or lost its name. None: it is not."""
        return None if self._core is None else self._core.fault()

    def remove(self, fault: str, consequence: str) -> None:
        """Removes a faulty bus, so that its other members notice and stop publishing to it."""
        logs.logger.error(
            "The bus %r %s while the server runs. A new bus is created: clients of WebSockets and "
            "event streams are closed, and %s.",
            self.core.name,
            fault,
            consequence,
        )
        self.core.remove()

    def why_no_place(self, processes: int) -> str | None:
        """Why the bus has no places for so many processes. None: it has."""
        try:
            self.core.reserve_places(processes)
        except BusError as error:
            return str(error)
        return None

    def close(self, *, is_lost: bool = False) -> None:
        """Closes the bus at the end of the server, and removes it.

        It stays if it retains history, or if another process has it open: the next start of the
        server joins it, and that process still publishes to it.
        """
        if self._core is None:
            return
        stays = self.retains_history and not self._is_temporary
        if not stays and not is_lost:
            self._core.remove_if_unused()
        self._core.close()
        self._core = None

    def _log_small_sizes(self, core: _core.Bus) -> None:
        """Logs sizes below the defaults, which are due to a lack of space in /dev/shm."""
        settings = self._settings
        sizes = []
        if settings.bus_size is None and core.ring_bytes < _DEFAULT_BYTES:
            sizes.append(
                f"{_mebibytes(core.ring_bytes)} for the newest messages of each worker (bus_size), "
                "a quarter of that for one message"
            )
        retains = self.retains_history
        if retains and settings.history_size is None and core.history_bytes < _DEFAULT_BYTES:
            sizes.append(f"{_mebibytes(core.history_bytes)} of history (history_size)")
        if sizes:
            logs.logger.info(
                "There is little room in /dev/shm, so the bus has %s. For the usual %s, enlarge "
                "/dev/shm (Docker: --shm-size).",
                ", and ".join(sizes),
                _mebibytes(_DEFAULT_BYTES),
            )


def _mebibytes(size: int) -> str:
    """A size of at least a mebibyte, for people."""
    return f"{size / 2**20:g} MiB"


def _place(settings: Settings, port: int) -> str:
    """The part of the name that identifies the server, and stays the same after a restart."""
    if settings.uds is None:
        return str(port) if port else f"fd{settings.fd or 3}"
    path = os.path.realpath(settings.uds)
    return f"uds-{zlib.crc32(os.fsencode(path)):08x}"
