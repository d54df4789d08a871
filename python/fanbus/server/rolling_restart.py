"""The rolling restart that replaces workers one after the other while they serve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanbus.runtime.logs import logger

if TYPE_CHECKING:
    from fanbus.server.slot import Slot
    from fanbus.server.workers import Workers

__all__ = ["MOST_LEAVING", "RollingRestart"]

# The most old workers that finish their requests at a time. The bus has places for them, and for
# one that starts.
MOST_LEAVING = 4


class RollingRestart:
    """The generation of the code that workers should have, and the progress towards it."""

    def __init__(self, workers: Workers) -> None:
        self.generation = 0
        """The number of reloads. New workers have this generation."""
        self.is_on = False
        """Whether workers of older generations are being replaced."""
        self._workers = workers

    def begin(self, generation: int) -> None:
        """Begins to replace workers: there is newer code."""
        self.generation, self.is_on = generation, True

    def stop(self) -> None:
        """Stops replacing; older workers stay."""
        self.is_on = False

    def next_slot(self, now: float) -> Slot | None:
        """A slot whose worker must be replaced now. None while another one is being replaced."""
        workers = self._workers
        if any(slot.next for slot in workers.slots):
            return None  # one after the other
        if sum(len(slot.leaving) for slot in workers.all_slots()) >= MOST_LEAVING:
            return None
        for slot in workers.slots:
            current = slot.current
            if current is None or not current.is_ready or current.aborted_at is not None:
                continue
            is_old = self.is_on and current.generation < self.generation
            if (is_old or current.replace_reason) and (
                slot.start_at is None or slot.start_at <= now
            ):
                if current.replace_reason:
                    logger.info(
                        "Worker %d (PID %d) %s; replacing it.",
                        slot.index,
                        current.pid,
                        current.replace_reason,
                    )
                return slot
        return None

    def complete(self) -> bool:
        """Ends the restart if all workers are new. True once, when it has just ended."""
        serving = [slot.current for slot in self._workers.slots]
        if not self.is_on or any(slot.next for slot in self._workers.slots):
            return False
        if any(not one or not one.is_ready for one in serving):
            return False
        if any(one and one.generation != self.generation for one in serving):
            return False
        self.is_on = False
        return True
