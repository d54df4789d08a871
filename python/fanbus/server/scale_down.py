"""Slots that were given up, until nobody needs them any more.

A listener that is closed resets what waits in its queue, and each connection whose handshake it has
begun. So it is closed in steps: new connections are steered past it; those under way have come; its
worker has emptied its queue, closed its own copy, and said so. Only then the supervisor closes the
last copy, and the kernel spreads connections by itself again.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence

from fanbus.server import reuseport
from fanbus.server.slot import Process, Slot

__all__ = ["ScaleDown"]

# Connections that were under way to a listener have come by then.
_STEERED_S = 1.0


class ScaleDown:
    """Given up in the order of `slots`: each stood last among the listeners that were left."""

    def __init__(self, tell_to_end: Callable[[Slot, Process], None]) -> None:
        self.slots: list[Slot] = []
        self.steered_until: float | None = None
        """When what was under way has come; None if nothing is waited for."""
        self._tell_to_end = tell_to_end

    def resume(self, slots: Sequence[Slot]) -> None:
        """Those of the supervisor's life before."""
        self.slots = list(slots)
        if self._open():
            self.steered_until = time.monotonic() + _STEERED_S

    def take(self, slot: Slot, serving: Sequence[Slot]) -> None:
        """A slot that is given up; `serving` stay."""
        self.slots.append(slot)
        is_shared = any(os.path.sameopenfile(slot.listener, one.listener) for one in serving)
        if not is_shared and reuseport.limit_to_first(slot.listener, _listeners(serving)):
            self.steered_until = time.monotonic() + _STEERED_S
            return
        # The queue is everybody's, or the kernel cannot steer and the worker has to be quick.
        slot.stop_listening()
        self._end_processes(slot)

    def reuse_slot(self, serving: Sequence[Slot]) -> Slot | None:
        """A slot that is wanted again, with who may still serve it; None if there is none."""
        slots = self._open()
        if not slots:
            return None
        # The last one to go was the first of them among the listeners.
        slot = slots.pop()
        self.slots.remove(slot)
        if slots:
            reuseport.limit_to_first(slot.listener, _listeners([*serving, slot]))
        else:
            self.steered_until = None
            reuseport.use_all(slot.listener)
        return slot

    def advance(self, now: float, serving: Sequence[Slot]) -> list[Slot]:
        """Ends their workers, and closes their listeners. Returns those in whose queues connections
        wait although nobody serves them: each needs one more worker."""
        if self.steered_until is not None and now < self.steered_until:
            return []
        self.steered_until = None
        slots = self._open()
        if not slots:
            return []
        for slot in slots:
            # Who boots is let be if somebody waits for it.
            if slot.current is None or slot.current.is_ready or not _has_waiting(slot):
                self._end_processes(slot)
        # Always the last one of the listeners: the kernel puts the last one in the place of one
        # that goes, and connections are steered by places.
        while slots and _is_deserted(slots[0]) and not _has_waiting(slots[0]):
            slots.pop(0).stop_listening()
        if not slots:
            reuseport.use_all(serving[0].listener)
        return [slot for slot in slots if _is_deserted(slot) and _has_waiting(slot)]

    def forget(self) -> None:
        """Those of which nothing is left."""
        self.slots = [slot for slot in self.slots if slot.listener >= 0 or slot.processes()]

    def _open(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.listener >= 0]

    def _end_processes(self, slot: Slot) -> None:
        for process in slot.staying():
            self._tell_to_end(slot, process)
        slot.current = slot.next = None


def _listeners(slots: Sequence[Slot]) -> int:
    """How many there are: slots may share one that was inherited."""
    return len({os.fstat(slot.listener).st_ino for slot in slots})


def _is_deserted(slot: Slot) -> bool:
    """Nobody takes what waits in its queue, or will."""
    return all(process.has_stopped_listening for process in slot.processes())


def _has_waiting(slot: Slot) -> bool:
    """Whether there are connections in its queue."""
    waiting = select.poll()
    waiting.register(slot.listener, select.POLLIN)
    return bool(waiting.poll(0))
