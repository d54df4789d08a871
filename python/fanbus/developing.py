"""New code for who writes an application: a file changes, and a process that has waited for that
reads the code and serves.

Nothing is tried before: the old worker serves until the new one does, and goes on if that one
cannot start. If the code wants something of the supervisor itself, that reloads as for SIGHUP.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fanbus.logs import logger
from fanbus.slots import Process
from fanbus.spare import Spare

if TYPE_CHECKING:
    from fanbus.changes import Changes
    from fanbus.crew import Crew
    from fanbus.invocation import Invocation
    from fanbus.rolling import Rolling
    from fanbus.slots import Slot

__all__ = ["Developing"]


class Developing:
    """Watches files, and keeps a spare process for the first slot, usually the only one."""

    def __init__(
        self,
        changes: Changes,
        selector: selectors.BaseSelector,
        crew: Crew,
        rolling: Rolling,
        *,
        command: Invocation | None,
        bus: tuple[str, int],
        terms: Any,
        on_begin: Callable[[], None],
        reload: Callable[[], None],
    ) -> None:
        """`command` starts the server; None if it cannot be started otherwise. `terms` are those of
        `spare.terms`. `reload` is the way that takes longer."""
        self._changes = changes
        self._selector = selector
        self._crew = crew
        self._rolling = rolling
        self._bus = bus
        self._terms = terms
        self._on_begin = on_begin
        self._reload = reload
        self._command = command
        self._spare: Spare | None = None
        self._keeps_one = self._command is not None
        self._has_changed = False
        self._is_over = False
        selector.register(changes, selectors.EVENT_READ, self._on_change)

    def directories(self) -> list[str]:
        """What is watched."""
        return self._changes.directories()

    def begin_if_changed(self) -> None:
        """For a file that had changed before the watch began."""
        if self._changes.has_changed():
            self._begin()

    def starts_workers(self) -> bool:
        """Whether this process itself has only older code, and cannot fork them."""
        return self._has_changed

    def start(self, slot: Slot) -> None:
        """A new process for the slot, which reads the code as it is now."""
        assert self._command is not None
        self._forget_a_dead_one()
        if self._spare is not None and self._spare.listener != slot.listener:
            self.cancel()  # it waits for the first slot; SIGTTIN has made others
        spare, self._spare = self._spare, None
        try:
            spare = spare or Spare(self._command, slot.listener)
        except OSError as error:
            self._crew.cannot_start(slot, error)
            return
        spare.call(f"worker {slot.index}", self._bus, self._terms)
        process = Process.new(spare.pid, self._rolling.generation, spare.report, spare.trace)
        self._crew.take_in(slot, process)
        hear = lambda: self._hear(slot, process, spare)  # noqa: E731 - a name for two
        self._selector.register(spare.line, selectors.EVENT_READ, hear)

    def keep_ready(self) -> None:
        """Is called in each turn of the supervisor's loop: has a spare wait, unless a worker boots,
        which needs the processor more."""
        slot = self._crew.slots[0]
        self._forget_a_dead_one()
        if self._spare is not None or not self._keeps_one or self._is_over:
            return
        if slot.next is not None or slot.current is None or not slot.current.is_ready:
            return
        assert self._command is not None
        try:
            self._spare = Spare(self._command, slot.listener)
        except OSError:
            self._keeps_one = False

    def pids(self) -> set[int]:
        """Processes that wait."""
        return set() if self._spare is None else {self._spare.pid}

    def cancel(self) -> None:
        """Nobody waits any more, for now."""
        if self._spare is not None:
            self._spare.cancel()
            self._spare = None

    def end(self) -> None:
        """The server ends: new code is not wanted any more."""
        self._is_over = True
        self.cancel()

    def close(self) -> None:
        """Lets go of all descriptors; in a worker, too, which has nothing to do with them."""
        if self._spare is not None:
            self._spare.close()
        self._changes.close()

    def _forget_a_dead_one(self) -> None:
        if self._spare is not None and self._spare.has_ended():
            self._spare.close()
            self._spare = None
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
        self._crew.dismiss_unready()  # they may have read what has changed since
        self._rolling.begin(self._rolling.generation + 1)

    def _hear(self, slot: Slot, process: Process, spare: Spare) -> None:
        """What a process that was called says about the code that it has read."""
        answer = spare.answer()
        if answer is None:
            return
        self._selector.unregister(spare.line)
        spare.line.close()
        if not answer or process not in slot.staying():
            return  # it has failed, or is not wanted any more
        if answer["is_enough"]:
            self._changes.watch_also(answer["directories"])
            return
        # Until the supervisor itself has the new code, what it has must do.
        self._has_changed = False
        self._crew.dismiss_unready()
        self._rolling.stop()
        self._reload()
