"""The worker processes that fill the slots: this module forks, watches, ends and reaps them.

It decides nothing about the server. It reports workers that are ready, and workers that exited.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from fanbus.config import MAX_WORKERS
from fanbus.runtime import signals, worker_process
from fanbus.runtime.logs import logger
from fanbus.server import reuseport
from fanbus.server.fork import fork
from fanbus.server.scale_down import ScaleDown
from fanbus.server.slot import Process, Slot

if TYPE_CHECKING:
    from fanbus.config import Settings

__all__ = ["KILL_AFTER_GRACE_S", "RunWorker", "WorkerExit", "Workers"]

# A worker ends itself after the grace time and a second each for hooks, tasks, the application's
# own end and exit functions. After this time, the supervisor kills it.
KILL_AFTER_GRACE_S = 8.0


class RunWorker(Protocol):
    """`fanbus.runtime.worker_process.main` with its application and its settings."""

    def __call__(
        self,
        *,
        listener: int,
        bus: tuple[str, int],
        report: int,
        trace: int,
        supervisor_pid: int,
    ) -> NoReturn:
        """Runs a worker in a process that was forked for it."""


@dataclass(frozen=True)
class WorkerExit:
    """A worker process that has ended and has been reaped."""

    slot: Slot
    process: Process
    exit_code: int
    """Negative: the number of the signal that killed it."""

    stacks: str
    """The stacks of its threads, if a fault killed it."""


class Workers:
    """All slots, and the processes in them."""

    def __init__(
        self,
        settings: Settings,
        selector: selectors.BaseSelector,
        *,
        on_ready: Callable[[Slot, Process], None],
    ) -> None:
        """`selector` waits for reports of workers. Its keys hold the functions to call.

        `on_ready` is called when a worker serves.
        """
        self.slots: list[Slot] = []
        self.scale_down = ScaleDown(self.end_worker)
        self._settings = settings
        self._selector = selector
        self._on_ready = on_ready
        self._pid = os.getpid()

    def listen_on(self, listeners: Collection[int]) -> None:
        """Makes a slot for each listener."""
        self.slots = [Slot(index, listener) for index, listener in enumerate(listeners, 1)]

    def to_json(self) -> dict[str, Any]:
        """The state for the re-executed supervisor."""
        return {
            "slots": [slot.to_json() for slot in self.slots],
            "retired": [slot.to_json() for slot in self.scale_down.slots],
        }

    def resume(self, saved: dict[str, Any]) -> None:
        """Takes over the state that `to_json` saved before the re-exec."""
        self.slots = [Slot.from_json(slot) for slot in saved["slots"]]
        self.scale_down.resume([Slot.from_json(slot) for slot in saved["retired"]])
        for slot in self.all_slots():
            for process in slot.processes():
                self._watch_report(slot, process)

    def all_slots(self) -> list[Slot]:
        """All slots, also those that are being removed."""
        return self.slots + self.scale_down.slots

    def processes(self) -> Iterator[Process]:
        """All processes that have not been reaped."""
        for slot in self.all_slots():
            yield from slot.processes()

    def pids(self) -> set[int]:
        """The IDs of all processes."""
        return {process.pid for process in self.processes()}

    def descriptors(self) -> list[int]:
        """The descriptors for the re-executed supervisor: listeners, reports and traces."""
        held = [slot.listener for slot in self.all_slots() if slot.listener >= 0]
        for process in self.processes():
            held += process.descriptors()
        return held

    # Starting.

    def fork(self, slot: Slot, generation: int, run: Callable[[int, int], NoReturn]) -> bool:
        """Forks a process for the slot: as `current` if there is none, else as `next`.

        The process calls `run` with the writing end of its report and with its trace. Returns False
        if the fork failed; then the slot pauses.
        """
        with contextlib.ExitStack() as ours:
            try:
                reading, writing = os.pipe()
                ours.callback(os.close, reading)
                with os.fdopen(writing, "wb"):
                    trace = os.memfd_create("fanbus-stacks")
                    ours.callback(os.close, trace)
                    pid = self._fork(slot, reading, lambda: run(writing, trace))
            except OSError as error:
                self.note_failed_start(slot, error)
                return False
            ours.pop_all()  # they belong to the process from here on
        self.add(slot, Process.new(pid, generation, reading, trace))
        return True

    def _fork(self, slot: Slot, reading: int, run: Callable[[], NoReturn]) -> int:
        # Until the child has its own handlers, a signal to it would reach those of the parent.
        signals.block()
        try:
            pid = fork()
            if pid == 0:
                try:
                    os.close(reading)
                    self._close_others(slot)
                    run()
                except BaseException:  # noqa: BLE001 - the supervisor's code must not go on here
                    logger.critical("The worker crashed.", exc_info=True)
                finally:
                    os._exit(worker_process.CRASHED)
            return pid
        finally:
            if os.getpid() == self._pid:
                signals.unblock()

    def note_failed_start(self, slot: Slot, error: OSError) -> None:
        """Logs that no process could be started for the slot. It counts as an exit."""
        slot.started_at = time.monotonic()
        pause = slot.note_exit(slot.started_at)
        logger.error(
            "Cannot fork worker %d: %s. Next try in %.2g s.", slot.index, error.strerror, pause
        )

    def add(self, slot: Slot, process: Process) -> None:
        """Adds a process that has been started for the slot."""
        slot.start_at, slot.started_at = None, process.started_at
        if slot.current is None:
            slot.current = process
        else:
            slot.next = process
        self._watch_report(slot, process)

    def _close_others(self, slot: Slot) -> None:
        """In a worker: closes descriptors of the supervisor and of other workers."""
        for other in self.all_slots():
            if other is not slot:
                other.stop_listening()
        for process in self.processes():
            for descriptor in process.descriptors():
                os.close(descriptor)

    # Reports.

    def _watch_report(self, slot: Slot, process: Process) -> None:
        if process.report is not None:
            os.set_blocking(process.report, False)
            self._selector.register(
                process.report, selectors.EVENT_READ, lambda: self._read_report(slot, process)
            )

    def _read_report(self, slot: Slot, process: Process) -> None:
        """Reads the report of a worker: ready, the reason of a failure, heartbeats."""
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
        if received.strip(worker_process.IO_IS_STUCK):
            process.reported_at = time.monotonic()
        if process.failure or received[:1] == worker_process.FAILED:
            process.failure += received
            return
        process.io_is_stuck = received[-1:] == worker_process.IO_IS_STUCK
        if worker_process.STOPPED_LISTENING in received:
            process.has_stopped_listening = True
        if worker_process.ENOUGH_REQUESTS in received and process.replace_reason is None:
            process.replace_reason = "has served its number of requests"
        if not process.is_ready:
            process.is_ready = True
            if process is slot.next:  # it replaces another process, which may end now
                old, slot.current, slot.next = slot.current, process, None
                if old is not None:
                    self.end_worker(slot, old)
            self._on_ready(slot, process)

    # Ending.

    def end_worker(self, slot: Slot, process: Process) -> None:
        """Ends a worker in order, within the grace time. Another one serves the slot, or will."""
        slot.leaving.append(process)
        grace = self._settings.timeout_graceful_shutdown + KILL_AFTER_GRACE_S
        process.kill_at = time.monotonic() + grace
        self.send(process, worker_process.LEAVE if process.is_ready else signal.SIGTERM)

    def kill_unready(self) -> None:
        """Kills the workers that do not serve yet. Their slots may get others at once."""
        for slot in self.slots:
            for process in slot.active():
                if not process.is_ready:
                    slot.leaving.append(process)
                    self.send(process, signal.SIGKILL)
            if slot.current is not None and not slot.current.is_ready:
                slot.current = None
            slot.next = slot.start_at = None

    def end_all(self) -> None:
        """Ends all workers in order and closes all listeners. No worker is started afterwards."""
        for slot in self.all_slots():
            slot.stop_listening()  # the worker has the last copy, and accepts all of its queue
            slot.start_at = None
            for process in slot.active():
                self.send(process, signal.SIGTERM)

    def send_all(self, number: signal.Signals) -> None:
        """Sends a signal to all workers."""
        for process in self.processes():
            self.send(process, number)

    def send(self, process: Process, number: signal.Signals) -> None:
        """Sends a signal to one worker."""
        os.kill(process.pid, number)  # not reaped yet, so the PID is still its own

    def reap(self) -> Iterator[WorkerExit]:
        """The workers that have exited. The caller takes each out of its slot before the next."""
        for slot in self.all_slots():
            for process in slot.processes():
                try:
                    pid, status = os.waitpid(process.pid, os.WNOHANG)
                except ChildProcessError:  # the application has reaped it
                    pid, status = process.pid, 0
                if pid:
                    yield self._reaped(slot, process, os.waitstatus_to_exitcode(status))

    def _reaped(self, slot: Slot, process: Process, exit_code: int) -> WorkerExit:
        while process.report is not None:
            before = len(process.failure)
            self._read_report(slot, process)
            if process.report is not None and len(process.failure) == before:
                # A child process of the worker holds the other end, so there is no end of file.
                self._selector.unregister(process.report)
                break
        stacks = process.stacks()
        process.close()
        return WorkerExit(slot, process, exit_code, stacks)

    def close(self) -> None:
        """Kills all workers and closes all listeners, also after an error of the supervisor."""
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, 0)
            process.close()
        for slot in self.all_slots():
            slot.stop_listening()

    # Adding and removing slots.

    def add_slot(self) -> bool:
        """Adds a slot, maybe without a worker yet. False if it cannot be added: the log has the
        reason."""
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
        """Removes a slot; its worker ends in order. False if it is the last one, with a warning."""
        if len(self.slots) == 1:
            logger.warning("No worker removed: one must stay.")
            return False
        slot = self.slots.pop()
        self.scale_down.add(slot, self.slots)
        return True

    def advance_scale_down(self, now: float) -> list[Slot]:
        """Takes the next step of closing removed slots. Returns slots that need one more worker,
        because connections wait in their queues."""
        return self.scale_down.advance(now, self.slots)
