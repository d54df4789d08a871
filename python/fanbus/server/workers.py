"""The workers' processes in their slots: forked, heard, told to end, and buried.

It decides nothing about the server. It reports a worker that is ready, and those that died.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from fanbus.config import MAX_WORKERS
from fanbus.runtime import signals, worker
from fanbus.runtime.logs import logger
from fanbus.server import reuseport
from fanbus.server.fork import fork
from fanbus.server.scale_down import ScaleDown
from fanbus.server.slot import Process, Slot

if TYPE_CHECKING:
    from fanbus.config import Settings

__all__ = ["KILL_AFTER_GRACE_S", "Death", "Workers"]

# A worker ends itself when its grace time is over, and hooks, tasks, the application's own end and
# exit functions have had a second each; this is for one that cannot.
KILL_AFTER_GRACE_S = 8.0


@dataclass(frozen=True)
class Death:
    """The end of a worker process."""

    slot: Slot
    process: Process
    exit_code: int
    """Negative: the signal that killed it."""

    stacks: str
    """What its threads were doing, if it was a fault."""


class Workers:
    """All slots, and the processes in them."""

    def __init__(
        self,
        settings: Settings,
        selector: selectors.BaseSelector,
        *,
        on_ready: Callable[[Slot, Process], None],
    ) -> None:
        """The selector waits for what workers report, and calls what is registered with that."""
        self.slots: list[Slot] = []
        self.scale_down = ScaleDown(self.tell_to_end)
        self._settings = settings
        self._selector = selector
        self._on_ready = on_ready
        self._pid = os.getpid()

    def listen_on(self, listeners: Collection[int]) -> None:
        """A slot for each listener."""
        self.slots = [Slot(index, listener) for index, listener in enumerate(listeners, 1)]

    def to_json(self) -> dict[str, Any]:
        """For the supervisor's next life."""
        return {
            "slots": [slot.to_json() for slot in self.slots],
            "retired": [slot.to_json() for slot in self.scale_down.slots],
        }

    def resume(self, saved: dict[str, Any]) -> None:
        """Takes over what `to_json` gave in the life before."""
        self.slots = [Slot.from_json(slot) for slot in saved["slots"]]
        self.scale_down.resume([Slot.from_json(slot) for slot in saved["retired"]])
        for slot in self.all_slots():
            for process in slot.processes():
                self._listen_to(slot, process)

    def all_slots(self) -> list[Slot]:
        """Also those that were given up."""
        return self.slots + self.scale_down.slots

    def processes(self) -> Iterator[Process]:
        """All that have not been buried."""
        for slot in self.all_slots():
            yield from slot.processes()

    def pids(self) -> set[int]:
        """Of all processes."""
        return {process.pid for process in self.processes()}

    def descriptors(self) -> list[int]:
        """What the next life needs: listeners, reports and traces."""
        held = [slot.listener for slot in self.all_slots() if slot.listener >= 0]
        for process in self.processes():
            held += process.descriptors()
        return held

    # Starting.

    def fork(self, slot: Slot, generation: int, live: Callable[[int, int], NoReturn]) -> bool:
        """A new process for the slot, in which `live` is called with the writing end of its report
        and with its trace: as `current` if there is none, else as `next`. False if there can be
        none now; the slot has its pause."""
        with contextlib.ExitStack() as ours:
            try:
                reading, writing = os.pipe()
                ours.callback(os.close, reading)
                with os.fdopen(writing, "wb"):
                    trace = os.memfd_create("fanbus-stacks")
                    ours.callback(os.close, trace)
                    pid = self._fork(slot, reading, lambda: live(writing, trace))
            except OSError as error:
                self.cannot_start(slot, error)
                return False
            ours.pop_all()  # they are the process's from here on
        self.take_in(slot, Process.new(pid, generation, reading, trace))
        return True

    def _fork(self, slot: Slot, reading: int, live: Callable[[], NoReturn]) -> int:
        # Until the child has its own handlers, a signal to it would speak in the parent's name.
        signals.block()
        try:
            pid = fork()
            if pid == 0:
                try:
                    os.close(reading)
                    self._let_go_of_others(slot)
                    live()
                except BaseException:  # noqa: BLE001 - nothing may run on into the supervisor's code
                    logger.critical("The worker crashed.", exc_info=True)
                finally:
                    os._exit(worker.CRASHED)
            return pid
        finally:
            if os.getpid() == self._pid:
                signals.unblock()

    def cannot_start(self, slot: Slot, error: OSError) -> None:
        """No process could be made for the slot: it counts as one that died."""
        slot.started_at = time.monotonic()
        pause = slot.died(slot.started_at)
        logger.error(
            "Cannot fork worker %d: %s. Next try in %.2g s.", slot.index, error.strerror, pause
        )

    def take_in(self, slot: Slot, process: Process) -> None:
        """A process has been started for the slot."""
        slot.start_at, slot.started_at = None, process.started_at
        if slot.current is None:
            slot.current = process
        else:
            slot.next = process
        self._listen_to(slot, process)

    def _let_go_of_others(self, slot: Slot) -> None:
        """In a worker: what belongs to the supervisor or to other workers."""
        for other in self.all_slots():
            if other is not slot:
                other.stop_listening()
        for process in self.processes():
            for descriptor in process.descriptors():
                os.close(descriptor)

    # Hearing.

    def _listen_to(self, slot: Slot, process: Process) -> None:
        if process.report is not None:
            os.set_blocking(process.report, False)
            hear = lambda: self._hear(slot, process)  # noqa: E731 - a name for two
            self._selector.register(process.report, selectors.EVENT_READ, hear)

    def _hear(self, slot: Slot, process: Process) -> None:
        """What a worker tells: ready, why it cannot start, signs of life."""
        assert process.report is not None
        try:
            received = os.read(process.report, 65536)
        except BlockingIOError:
            return
        if not received:
            self._selector.unregister(process.report)
            os.close(process.report)
            process.report = None
            return
        if received.strip(worker.IO_IS_STUCK):
            process.heard_at = time.monotonic()
        if process.failure or received[:1] == worker.FAILED:
            process.failure += received
            return
        process.io_is_stuck = received[-1:] == worker.IO_IS_STUCK
        if worker.STOPPED_LISTENING in received:
            process.has_stopped_listening = True
        if worker.ENOUGH in received and process.renewal is None:
            process.renewal = "has served its number of requests"
        if not process.is_ready:
            process.is_ready = True
            if process is slot.next:  # it replaces another one, which may go
                old, slot.current, slot.next = slot.current, process, None
                if old is not None:
                    self.tell_to_end(slot, old)
            self._on_ready(slot, process)

    # Ending.

    def tell_to_end(self, slot: Slot, process: Process) -> None:
        """In order, within the grace time. Somebody else serves the slot, or will."""
        slot.leaving.append(process)
        grace = self._settings.timeout_graceful_shutdown + KILL_AFTER_GRACE_S
        process.end_by = time.monotonic() + grace
        self.send(process, worker.LEAVE if process.is_ready else signal.SIGTERM)

    def dismiss_unready(self) -> None:
        """Ends at once who does not serve yet; the slots may have others right away."""
        for slot in self.slots:
            for process in slot.staying():
                if not process.is_ready:
                    slot.leaving.append(process)
                    self.send(process, signal.SIGKILL)
            if slot.current is not None and not slot.current.is_ready:
                slot.current = None
            slot.next = slot.start_at = None

    def end_all(self) -> None:
        """All in order; no listener is kept, and so none is started any more."""
        for slot in self.all_slots():
            slot.stop_listening()  # the worker's copy is the last: when it stops, nobody waits
            slot.start_at = None
            for process in slot.staying():
                self.send(process, signal.SIGTERM)

    def send_all(self, number: signal.Signals) -> None:
        """A signal to all of them."""
        for process in self.processes():
            self.send(process, number)

    def send(self, process: Process, number: signal.Signals) -> None:
        """A signal to one of them."""
        os.kill(process.pid, number)  # not reaped yet, so the PID is still its own

    def dead(self) -> Iterator[Death]:
        """Those that have ended since. Whoever asks takes each out of its slot before the next."""
        for slot in self.all_slots():
            for process in slot.processes():
                try:
                    pid, status = os.waitpid(process.pid, os.WNOHANG)
                except ChildProcessError:  # the application waits for children of others
                    pid, status = process.pid, 0
                if pid:
                    yield self._bury(slot, process, os.waitstatus_to_exitcode(status))

    def _bury(self, slot: Slot, process: Process, exit_code: int) -> Death:
        while process.report is not None:
            before = len(process.failure)
            self._hear(slot, process)
            if process.report is not None and len(process.failure) == before:
                # A child of the worker's holds the other end: there will be no end of file.
                self._selector.unregister(process.report)
                break
        stacks = process.stacks()
        process.close()
        return Death(slot, process, exit_code, stacks)

    def leave(self) -> None:
        """Also after an error of our own: no worker and no listener stay."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, 0)
            process.close()
        for slot in self.all_slots():
            slot.stop_listening()

    # A slot more or less.

    def add_slot(self) -> bool:
        """One slot more, maybe without a worker yet. False if there can be none: the log says
        why."""
        if len(self.slots) >= MAX_WORKERS:
            logger.warning("No worker added: %d is the maximum.", MAX_WORKERS)
            return False
        slot = self.scale_down.reuse_slot(self.slots)
        if slot is None:
            try:
                listener = reuseport.clone_listener(self.slots[0].listener, self._settings.backlog)
            except OSError as error:
                logger.error("No worker added: cannot listen: %s.", error.strerror)
                return False
            slot = Slot(self.slots[-1].index + 1, listener)
        self.slots.append(slot)
        return True

    def remove_slot(self) -> bool:
        """One slot less; its worker ends in order. False if it is the last one: the log says so."""
        if len(self.slots) == 1:
            logger.warning("No worker removed: one must stay.")
            return False
        slot = self.slots.pop()
        self.scale_down.take(slot, self.slots)
        return True

    def advance_scale_down(self, now: float) -> list[Slot]:
        """The end of slots that were given up, step by step. Returns those that need one more
        worker, for who waits there."""
        return self.scale_down.advance(now, self.slots)
