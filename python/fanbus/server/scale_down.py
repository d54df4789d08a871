"""The scale-down that closes removed slots without resetting a connection.

Closing a listener resets the connections in its queue, and those whose handshake it has begun. So
it is closed in steps. First, new connections are directed to the other listeners. Then connections
under way have arrived. Then its worker has emptied the queue, closed its own copy and reported so.
Only then the supervisor closes the last copy, and the kernel spreads connections by itself again.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Sequence

from fanbus.server import reuseport
from fanbus.server.slot import Process, Slot

__all__ = ["ScaleDown"]

# Connections that were under way to a listener have arrived after this time.
_LIMITED_S = 1.0


class ScaleDown:
    """The slots that are being removed, in order: each was the last listener at its time."""

    def __init__(self, end_worker: Callable[[Slot, Process], None]) -> None:
        self.slots: list[Slot] = []
        self.limited_until: float | None = None
        """When connections under way have arrived; None if none are expected."""
        self._end_worker = end_worker

    def resume(self, slots: Sequence[Slot]) -> None:
        """Takes over the slots from before a re-exec."""
        self.slots = list(slots)
        if self._open():
            self.limited_until = time.monotonic() + _LIMITED_S

    def add(self, slot: Slot, serving: Sequence[Slot]) -> None:
        """Begins to remove a slot; the slots in `serving` stay."""
        self.slots.append(slot)
        is_shared = any(os.path.sameopenfile(slot.listener, one.listener) for one in serving)
        if not is_shared and reuseport.limit_to_first(slot.listener, _listeners(serving)):
            self.limited_until = time.monotonic() + _LIMITED_S
            return
        # All slots share the queue, or the kernel cannot direct connections: the worker ends now.
        slot.stop_listening()
        self._end_processes(slot)

    def reuse_slot(self, serving: Sequence[Slot]) -> Slot | None:
        """Takes a slot back, with the process that may still serve it; None if there is none."""
        slots = self._open()
        if not slots:
            return None
        # The slot that was removed last comes first of them among the listeners.
        slot = slots.pop()
        self.slots.remove(slot)
        if slots:
            reuseport.limit_to_first(slot.listener, _listeners([*serving, slot]))
        else:
            self.limited_until = None
            reuseport.use_all(slot.listener)
        return slot

    def advance(self, now: float, serving: Sequence[Slot]) -> list[Slot]:
        """Takes the next step: ends workers, and closes listeners.

        Returns the slots in whose queues connections wait without a worker: each needs one more.
        """
        if self.limited_until is not None and now < self.limited_until:
            return []
        self.limited_until = None
        slots = self._open()
        if not slots:
            return []
        for slot in slots:
            # A worker that boots stays if connections wait for it.
            if slot.current is None or slot.current.is_ready or not _has_waiting(slot):
                self._end_processes(slot)
        # Only the last listener may be closed: the kernel moves the last one to the place of a
        # closed one, and connections are directed by places.
        while slots and _has_no_worker(slots[0]) and not _has_waiting(slots[0]):
            slots.pop(0).stop_listening()
        if not slots:
            reuseport.use_all(serving[0].listener)
        return [slot for slot in slots if _has_no_worker(slot) and _has_waiting(slot)]

    def drop_closed(self) -> None:
        """Drops slots without a listener and without processes."""
        self.slots = [slot for slot in self.slots if slot.listener >= 0 or slot.processes()]

    def _open(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.listener >= 0]

    def _end_processes(self, slot: Slot) -> None:
        for process in slot.active():
            self._end_worker(slot, process)
        slot.current = slot.next = None


def _listeners(slots: Sequence[Slot]) -> int:
    """The number of listeners: slots may share an inherited one."""
    return len({os.fstat(slot.listener).st_ino for slot in slots})


def _has_no_worker(slot: Slot) -> bool:
    """Whether no process accepts connections of its queue, or will."""
    return all(process.has_stopped_listening for process in slot.processes())


def _has_waiting(slot: Slot) -> bool:
    """Whether connections wait in its queue."""
    waiting = select.poll()
    waiting.register(slot.listener, select.POLLIN)
    return bool(waiting.poll(0))
