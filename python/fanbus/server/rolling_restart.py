"""Which workers are to be replaced by new ones while they are well, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fanbus.runtime.logs import logger

if TYPE_CHECKING:
    from fanbus.server.slot import Slot
    from fanbus.server.workers import Workers

__all__ = ["MOST_LEAVING", "RollingRestart"]

# Old workers that finish what they have, at a time. The bus has places for so many, and for one
# that starts.
MOST_LEAVING = 4


class RollingRestart:
    """The generation of the code that workers are to have, and how far that has come."""

    def __init__(self, workers: Workers) -> None:
        self.generation = 0
        """Counts reloads. New workers are of this one."""
        self.is_on = False
        """Whether workers of older generations are being replaced."""
        self._workers = workers

    def begin(self, generation: int) -> None:
        """From here on there is newer code."""
        self.generation, self.is_on = generation, True

    def stop(self) -> None:
        """Older workers stay."""
        self.is_on = False

    def due(self, now: float) -> Slot | None:
        """A slot whose worker is to be replaced now. None while another one is."""
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
            if (is_old or current.renewal) and (slot.start_at is None or slot.start_at <= now):
                if current.renewal:
                    logger.info(
                        "Worker %d (PID %d) %s; replacing it.",
                        slot.index,
                        current.pid,
                        current.renewal,
                    )
                return slot
        return None

    def has_ended(self) -> bool:
        """Whether this has just come to its end: all workers are new. Tells so once."""
        serving = [slot.current for slot in self._workers.slots]
        if not self.is_on or any(slot.next for slot in self._workers.slots):
            return False
        if any(not one or not one.is_ready for one in serving):
            return False
        if any(one and one.generation != self.generation for one in serving):
            return False
        self.is_on = False
        return True
