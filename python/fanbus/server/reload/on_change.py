"""The reload on a change of a file: a standby process reads the new code and serves.

There is no check before. The old worker serves until the new one does, and stays if that one cannot
start. If the code changes values of the supervisor itself, the supervisor reloads as for SIGHUP.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fanbus.runtime.logs import logger
from fanbus.server.reload.standby import Standby
from fanbus.server.slot import Process

if TYPE_CHECKING:
    from fanbus.server.reload.start_command import Invocation
    from fanbus.server.reload.watch import FileWatcher
    from fanbus.server.rolling_restart import RollingRestart
    from fanbus.server.slot import Slot
    from fanbus.server.workers import Workers

__all__ = ["ReloadOnChange"]


class ReloadOnChange:
    """Watches files, and holds a standby process for the first slot, usually the only one."""

    def __init__(
        self,
        changes: FileWatcher,
        selector: selectors.BaseSelector,
        workers: Workers,
        rolling: RollingRestart,
        *,
        command: Invocation | None,
        bus: tuple[str, int],
        compatibility_key: Any,
        on_begin: Callable[[], None],
        reload: Callable[[], None],
    ) -> None:
        """`command` starts the server; None if it cannot be started otherwise. `reload` is the way
        that takes longer; it is used if the new code changes `standby.compatibility_key`."""
        self._changes = changes
        self._selector = selector
        self._workers = workers
        self._rolling = rolling
        self._bus = bus
        self._compatibility_key = compatibility_key
        self._on_begin = on_begin
        self._reload = reload
        self._command = command
        self._standby: Standby | None = None
        self._keeps_one = self._command is not None
        self._has_changed = False
        self._is_over = False
        selector.register(changes, selectors.EVENT_READ, self._on_change)

    def directories(self) -> list[str]:
        """The watched directories."""
        return self._changes.directories()

    def begin_if_changed(self) -> None:
        """For a file that had changed before the watch began."""
        if self._changes.has_changed():
            self._begin()

    def has_newer_code(self) -> bool:
        """Whether this process itself has only older code, and cannot fork them."""
        return self._has_changed

    def start_worker(self, slot: Slot) -> None:
        """A new process for the slot, which reads the code as it is now."""
        assert self._command is not None
        self._discard_ended()
        if self._standby is not None and self._standby.listener != slot.listener:
            self.cancel()  # it waits for the first slot; SIGTTIN has made others
        standby, self._standby = self._standby, None
        try:
            standby = standby or Standby(self._command, slot.listener)
        except OSError as error:
            self._workers.note_failed_start(slot, error)
            return
        standby.call(f"worker {slot.index}", self._bus, self._compatibility_key)
        process = Process.new(standby.pid, self._rolling.generation, standby.report, standby.trace)
        self._workers.add(slot, process)
        hear = lambda: self._read_reply(slot, process, standby)  # noqa: E731 - a name for two
        self._selector.register(standby.line, selectors.EVENT_READ, hear)

    def ensure_standby(self) -> None:
        """Starts a standby process unless a worker boots, which needs the processor more.

        The supervisor calls it in each turn of its loop.
        """
        slot = self._workers.slots[0]
        self._discard_ended()
        if self._standby is not None or not self._keeps_one or self._is_over:
            return
        if slot.next is not None or slot.current is None or not slot.current.is_ready:
            return
        assert self._command is not None
        try:
            self._standby = Standby(self._command, slot.listener)
        except OSError:
            self._keeps_one = False

    def pids(self) -> set[int]:
        """The ID of the standby process."""
        return set() if self._standby is None else {self._standby.pid}

    def cancel(self) -> None:
        """Ends the standby process."""
        if self._standby is not None:
            self._standby.cancel()
            self._standby = None

    def end(self) -> None:
        """Ends the standby process for good: the server ends."""
        self._is_over = True
        self.cancel()

    def close(self) -> None:
        """Closes all descriptors; also in a worker, which has no use for them."""
        if self._standby is not None:
            self._standby.close()
        self._changes.close()

    def _discard_ended(self) -> None:
        if self._standby is not None and self._standby.has_ended():
            self._standby.close()
            self._standby = None
            self._keeps_one = False  # it would die again; the next one is started when it is needed

    def _on_change(self) -> None:
        changed = self._changes.read()
        if changed and not self._is_over:
            logger.info("%s has changed.", changed)
            self._begin()

    def _begin(self) -> None:
        if self._command is None:
            self._reload()
            return
        logger.info("Reloading.")
        self._on_begin()
        self._has_changed = True
        self._workers.kill_unready()  # they may have read files that have changed since
        self._rolling.begin(self._rolling.generation + 1)

    def _read_reply(self, slot: Slot, process: Process, standby: Standby) -> None:
        """Reads the reply of a standby process about the code that it has read."""
        answer = standby.answer()
        if answer is None:
            return
        self._selector.unregister(standby.line)
        standby.line.close()
        if not answer or process not in slot.active():
            return  # it has failed, or was replaced
        if answer["is_enough"]:
            self._changes.watch_also(answer["directories"])
            return
        # Until the supervisor itself has the new code, the old code serves.
        self._has_changed = False
        self._workers.kill_unready()
        self._rolling.stop()
        self._reload()
