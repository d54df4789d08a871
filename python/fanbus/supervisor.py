"""The supervisor: it listens, forks the workers, replaces those that die, and ends them in order.

It serves nothing itself, starts no thread, and touches no connection. Each worker slot has its
own listener, bound here before the first fork and kept here: when a worker dies, the connections
that wait in its accept queue are served by its replacement.

A reload (SIGHUP) is three steps. A probe finds out whether the new code starts. Then this process
starts anew in its own place (`rebirth`), with the same children and the new code. Then, one slot
after the other, a new worker boots, and the old one ends when the new one serves.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from fanbus import _core, banner, logs, rebirth, steering, worker
from fanbus.changes import Changes
from fanbus.config import MAX_WORKERS
from fanbus.exceptions import StartError
from fanbus.health import outlived
from fanbus.listeners import open_listeners
from fanbus.logs import logger
from fanbus.notify import Notifier
from fanbus.orphans import Orphans
from fanbus.probe import Probe
from fanbus.server import keeps_history, leave_bus, open_bus
from fanbus.slots import Process, Slot

if TYPE_CHECKING:
    from fanbus.app import Fanbus
    from fanbus.config import Settings

__all__ = ["Supervisor"]

# A worker ends itself when its grace time is over, and what hooks and the application do at the end
# has had its second each; this is for one that cannot.
_KILL_AFTER_GRACE_S = 5.0
# A worker that was told to write its stacks and die has done so by then, or never will.
_ABORT_S = 2.0
# Old workers that finish what they have, at a time. The bus has room for so many more members.
_MOST_LEAVING = 4
# Connections that were under way to a listener have come by then.
_STEERED_S = 1.0
# The longest sleep while there are workers, and how often their age and memory are looked at.
_LOOK_S = 1.0
# The loop stood still for longer: this process was stopped, and so, likely, were the workers.
_WAS_STOPPED_S = 5.0


class Supervisor:
    """Runs an application in worker processes until SIGINT or SIGTERM.

    The first signal ends it in order (SIGTERM to all workers, the grace time, then SIGKILL), a
    second one at once. SIGHUP reloads, SIGTTIN and SIGTTOU mean a worker more or less, SIGUSR1
    reopens log files.
    """

    def __init__(
        self,
        app: Fanbus | None,
        settings: Settings,
        *,
        on_ready: Callable[[int], None] | None = None,
    ) -> None:
        """`app` is None for a caretaker, which starts no workers. `on_ready` gets the port, instead
        of the banner that says it.
        """
        self._app = app
        self._settings = settings
        self._pid = os.getpid()
        self._slots: list[Slot] = []
        self._retired: list[Slot] = []
        """Slots that were given up, until their processes have ended."""
        self._selector = selectors.DefaultSelector()
        self._port = settings.port
        self._on_ready = on_ready
        self._bus: _core.Bus | None = None
        self._up = False
        self._failure: str | None = None
        self._end_by: float | None = None
        """When the workers' time to end is over; None while the server runs."""
        self._generation = 0
        self._is_rolling = False
        """Whether workers of older generations are being replaced."""
        self._probe: Probe | None = None
        self._steered_until: float | None = None
        self._changes: Changes | None = None
        self._changed_since: float | None = None
        self._notifier = Notifier()
        self._signals_from: socket.socket | None = None
        self._looked_at = self._outlived_at = time.monotonic()
        self._has_terminal = _has_terminal()
        self._orphans: Orphans | None = None

    def run(self) -> None:
        """Returns after a clean end. StartError if the server cannot start."""
        logs.set_role("supervisor")
        state = rebirth.inherited()
        if state is None:
            self._port, bound = open_listeners(self._settings)
            self._slots = [Slot(index, listener) for index, listener in enumerate(bound, 1)]
        else:
            self._resume(state)
        with self._or_the_caretaker():
            self._bus = self._open_bus()
        with self._signals():  # also while leaving: a second Ctrl+C leaves nothing behind
            try:
                with self._or_the_caretaker():
                    self._prepare(state)
                rebirth.settled()
                self._watch()
            finally:
                self._leave()
        if self._failure is not None:
            raise StartError(self._failure, status=worker.STARTING_FAILED)

    def _prepare(self, state: dict[str, Any] | None) -> None:
        self._orphans = Orphans(self._children())
        _warn_of_threads()
        if self._settings.reload or self._settings.debug:
            known = state["directories"] if state is not None else ()
            self._changes = Changes(self._settings, since=self._changed_since, known=known)
            self._selector.register(self._changes, selectors.EVENT_READ, self._on_change)
        # The workers share what is there now; a collection would copy it into each.
        gc.collect()
        gc.freeze()
        self._begin(state)

    def _begin(self, state: dict[str, Any] | None) -> None:
        if state is not None:
            self._adapt_to_settings(state)

    @contextmanager
    def _or_the_caretaker(self) -> Iterator[None]:
        """If a life after a reload cannot begin, the caretaker does, and the workers stay."""
        try:
            yield
        except Exception as error:
            if rebirth.is_guarded():
                signal.pthread_sigmask(signal.SIG_BLOCK, worker.HANDLED)
                self._on_signal()
                if self._end_by is None:
                    told = isinstance(error, StartError)
                    rebirth.fall_back(str(error) if told else traceback.format_exc().strip())
            raise

    def _open_bus(self) -> _core.Bus:
        assert self._app is not None
        return open_bus(self._app, self._settings, self._port)

    def _keeps_history(self) -> bool:
        assert self._app is not None
        return keeps_history(self._app)

    # The loop: it sleeps until a signal, a report, or the next thing that is due.

    def _watch(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            if slot.current is None and slot.start_at is None:
                slot.start_at = now
        if self._changes is not None and self._changes.has_changed():
            self._reload()
        while True:
            self._start_due_workers()
            if self._end_by is not None and not any(self._processes()):
                return
            for key, _ in self._selector.select(self._timeout()):
                key.data()
            self._bury_the_dead()
            self._hear_the_probe()
            self._look_after(time.monotonic())

    def _timeout(self) -> float | None:
        due = [process.end_by for process in self._processes()]
        due += [slot.start_at for slot in self._slots if slot.current is None]
        due += [self._end_by, self._steered_until, self._notifier.due_at()]
        if self._probe is not None:
            due.append(self._probe.due_at)
        now = time.monotonic()
        if self._end_by is None and any(self._processes()):
            due.append(now + _LOOK_S)
        some = [at for at in due if at is not None]
        return max(0.0, min(some) - now) if some else None

    def _all_slots(self) -> list[Slot]:
        return self._slots + self._retired

    def _processes(self) -> Iterator[Process]:
        for slot in self._all_slots():
            yield from slot.processes()

    def _children(self) -> set[int]:
        known = {process.pid for process in self._processes()}
        if self._probe is not None:
            known.add(self._probe.pid)
        return known

    # Starting, and taking over.

    def _start_due_workers(self) -> None:
        if self._end_by is not None:
            return
        now = time.monotonic()
        for slot in self._slots:
            is_due = slot.start_at is None or slot.start_at <= now
            if slot.current is None and is_due:
                slot.current = self._start(slot)
        self._give_up_steered(now)
        if any(slot.next for slot in self._slots):
            return  # one after the other
        if sum(len(slot.leaving) for slot in self._all_slots()) >= _MOST_LEAVING:
            return
        for slot in self._slots:
            current = slot.current
            if current is None or not current.is_ready or current.aborted_at is not None:
                continue
            is_old = self._is_rolling and current.generation < self._generation
            if (is_old or current.renewal) and (slot.start_at is None or slot.start_at <= now):
                if current.renewal:
                    logger.info(
                        "Worker %d (PID %d) %s; replacing it.",
                        slot.index,
                        current.pid,
                        current.renewal,
                    )
                slot.next = self._start(slot)
                return
        if self._is_rolling:
            self._end_rolling_if_done()

    def _give_up_steered(self, now: float) -> None:
        if self._steered_until is not None and now >= self._steered_until:
            self._steered_until = None
            self._close_retired()

    def _start(self, slot: Slot) -> Process | None:
        """A new process for the slot. None if there can be none now; it is tried again."""
        now = time.monotonic()
        reading, writing = os.pipe()
        trace = os.memfd_create("fanbus-stacks")
        # Until the child has its own handlers, a signal to it would speak in the parent's name.
        signal.pthread_sigmask(signal.SIG_BLOCK, worker.HANDLED)
        try:
            pid = _fork()
        except OSError as error:
            for descriptor in (reading, writing, trace):
                os.close(descriptor)
            slot.started_at = now
            pause = slot.died(now)
            logger.error(
                "Cannot fork worker %d: %s. Next try in %.2g s.", slot.index, error.strerror, pause
            )
            return None
        else:
            if pid == 0:
                os.close(reading)
                self._become_worker(slot, writing, trace)
        finally:
            if os.getpid() == self._pid:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.HANDLED)
        os.close(writing)
        os.set_blocking(reading, False)
        slot.start_at, slot.started_at = None, now
        process = Process(pid, self._generation, reading, trace, now, now)
        self._listen_to(slot, process)
        return process

    def _listen_to(self, slot: Slot, process: Process) -> None:
        if process.report is not None:
            hear = lambda: self._read_report(slot, process)  # noqa: E731 - a name for two
            self._selector.register(process.report, selectors.EVENT_READ, hear)

    def _become_worker(self, slot: Slot, report: int, trace: int) -> NoReturn:
        assert self._bus is not None
        assert self._app is not None
        for other in self._all_slots():
            if other is not slot and other.listener >= 0:
                os.close(other.listener)
        for process in self._processes():
            for descriptor in process.descriptors():
                os.close(descriptor)
        if self._changes is not None:
            self._changes.close()
        self._selector.close()
        logs.set_role(f"worker {slot.index}")
        worker.main(
            self._app,
            self._settings,
            listener=slot.listener,
            bus_name=self._bus.name,
            report=report,
            trace=trace,
            supervisor_pid=self._pid,
        )

    def _read_report(self, slot: Slot, process: Process) -> None:
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
        if worker.ENOUGH in received and process.renewal is None:
            process.renewal = "has served its number of requests"
        if not process.is_ready:
            process.is_ready = True
            self._take_over(slot, process)

    def _take_over(self, slot: Slot, process: Process) -> None:
        """A worker is ready. If it replaces another one, that one may go."""
        if process is slot.next:
            old, slot.current, slot.next = slot.current, process, None
            if old is not None:
                self._tell_to_end(slot, old)
        if (
            self._app is not None
            and not self._up
            and all(one.current and one.current.is_ready for one in self._slots)
        ):
            self._up = True
            if self._on_ready is not None:
                self._on_ready(self._port)
            else:
                banner.show(self._settings, self._port, self._app._counts(), self._pid)
            self._notifier.ready(self._status())

    def _tell_to_end(self, slot: Slot, process: Process) -> None:
        slot.leaving.append(process)
        grace = self._settings.timeout_graceful_shutdown + _KILL_AFTER_GRACE_S
        process.end_by = time.monotonic() + grace
        self._signal(process, worker.LEAVE if process.is_ready else signal.SIGTERM)

    # Ends of processes.

    def _bury_the_dead(self) -> None:
        for slot in self._all_slots():
            for process in list(slot.processes()):
                try:
                    pid, status = os.waitpid(process.pid, os.WNOHANG)
                except ChildProcessError:  # the application waits for children of others
                    pid, status = process.pid, 0
                if pid:
                    self._bury(slot, process, os.waitstatus_to_exitcode(status))
        self._retired = [slot for slot in self._retired if any(slot.processes())]
        if self._orphans is not None:
            self._orphans.bury(self._children())

    def _bury(self, slot: Slot, process: Process, exit_code: int) -> None:
        while process.report is not None:
            before = len(process.failure)
            self._read_report(slot, process)
            if process.report is not None and len(process.failure) == before:
                # A child of the worker's holds the other end: there will be no end of file.
                self._selector.unregister(process.report)
                break
        stacks = process.stacks()
        process.close()
        assert self._bus is not None
        self._bus.reap()
        if process in slot.leaving:
            slot.leaving.remove(process)
            if exit_code and self._end_by is None:
                logger.warning(
                    "Old worker %d (PID %d) %s.", slot.index, process.pid, _manner(exit_code)
                )
            return
        pause = slot.died(time.monotonic())
        was_next = process is slot.next
        if was_next:
            slot.next = None
        else:
            slot.current, slot.next = slot.next, None
        if self._end_by is not None:
            return
        cannot_start = exit_code == worker.STARTING_FAILED and not process.is_ready
        if cannot_start and not self._up and self._generation == 0:
            if self._failure is None:
                self._failure = _failure(process.failure)
            self._end()
            return
        if cannot_start and was_next and process.generation == self._generation:
            self._stop_rolling(_failure(process.failure))
            return
        if cannot_start:
            logger.error("Worker %d could not start. %s", slot.index, _failure(process.failure))
        logger.error(
            "Worker %d (PID %d) %s; %s.%s",
            slot.index,
            process.pid,
            _manner(exit_code),
            self._what_follows(pause),
            f" Its threads were:\n{stacks}" if stacks else "",
        )

    def _what_follows(self, pause: float) -> str:
        return f"next start in {pause:.2g} s" if pause else "replaced at once"

    # What is looked after.

    def _look_after(self, now: float) -> None:
        self._notifier.watchdog(now)
        was_stopped = now - self._looked_at > _WAS_STOPPED_S
        self._looked_at = now
        if self._end_by is not None and now >= self._end_by:
            self._kill_all()
        for process in self._processes():
            if process.end_by is not None and now >= process.end_by:
                process.end_by = now + _KILL_AFTER_GRACE_S
                logger.warning("PID %d has not ended in its time, and is killed.", process.pid)
                self._signal(process, signal.SIGKILL)
        if self._end_by is not None:
            return
        for slot in self._slots:
            for one in (slot.current, slot.next):
                if one is not None:
                    if was_stopped:
                        one.heard_at = now
                    self._look_at(slot, one, now)
        if now - self._outlived_at >= _LOOK_S:
            self._outlived_at = now
            for slot in self._slots:
                current = slot.current
                if current is not None and current.is_ready and current.renewal is None:
                    current.renewal = outlived(current, self._settings, now)

    def _look_at(self, slot: Slot, process: Process, now: float) -> None:
        if process.aborted_at is not None:
            if now - process.aborted_at > _ABORT_S:
                self._signal(process, signal.SIGKILL)
            return
        limit = self._settings.timeout_worker if process.is_ready else self._boot_limit()
        if not limit or now - process.heard_at <= limit:
            return
        if not process.is_ready:
            what = "is not ready"
        elif process.io_is_stuck:
            what = "has not answered: its I/O thread is stuck"
        else:
            what = "has not answered: its event loop is stuck"
        logger.error(
            "Worker %d (PID %d) %s for %g s; ending it.", slot.index, process.pid, what, limit
        )
        process.aborted_at = now
        self._signal(process, signal.SIGABRT)  # faulthandler writes the stacks, then it dies

    def _boot_limit(self) -> float:
        return self._settings.timeout_worker_boot

    # Reloading.

    def _reload(self) -> None:
        """Asks whether the new code starts; the answer decides (`_hear_the_probe`)."""
        if self._end_by is not None:
            return
        if self._probe is not None:  # it may have read what has changed since
            self._probe.cancel()
            self._probe = None
        logger.info("Reloading.")
        self._notifier.reloading()
        try:
            self._probe = Probe(self._boot_limit())
        except OSError as error:
            self._keep_old_code(f"A process to try it in could not be started: {error.strerror}.")

    def _hear_the_probe(self) -> None:
        if self._probe is None or self._end_by is not None:
            return
        wrong = self._probe.result(time.monotonic())
        if wrong is None:
            return
        since = self._probe.started_at_wall
        self._probe = None
        if wrong:
            self._keep_old_code(wrong)
        else:
            self._start_anew(since)

    def _keep_old_code(self, why: str) -> None:
        logger.error("The new code does not start; the workers go on with the old code.\n%s", why)
        self._notifier.ready(f"{self._status()}; the last reload failed")

    def _start_anew(self, since: float) -> None:
        # Pending signals outlive the exec; what has been delivered is carried out before it.
        signal.pthread_sigmask(signal.SIG_BLOCK, worker.HANDLED)
        try:
            self._on_signal()
            if self._end_by is not None or self._probe is not None:
                return
            if wrong := rebirth.wrong_script():
                self._keep_old_code(wrong)
                return
            slots = self._all_slots()
            held = [slot.listener for slot in slots if slot.listener >= 0]
            for process in self._processes():
                held += process.descriptors()
            rebirth.start_anew(self._state(since), held)
        except OSError as error:
            self._keep_old_code(f"{sys.executable} cannot be executed: {error.strerror}.")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.HANDLED)

    def _state(self, since: float) -> dict[str, Any]:
        return {
            "port": self._port,
            "asked": [self._settings.host, self._settings.port, self._settings.workers],
            "generation": self._generation,
            "slots": [slot.to_json() for slot in self._slots],
            "retired": [slot.to_json() for slot in self._retired],
            "changed_since": since,
            "bus": self._bus.name if self._bus is not None else None,
            # For the caretaker, if this has to be the last life with this code.
            "settings": self._settings.to_json(),
            "keeps_history": self._keeps_history(),
            "directories": self._changes.directories() if self._changes is not None else [],
            "limit_s": self._boot_limit(),
            "signals": sorted(worker.HANDLED),
        }

    def _resume(self, state: dict[str, Any]) -> None:
        """The life before has ended in `_start_anew`; here it goes on."""
        self._port = state["port"]
        self._generation = state["generation"] + 1
        self._slots = [Slot.from_json(saved) for saved in state["slots"]]
        self._retired = [Slot.from_json(saved) for saved in state["retired"]]
        self._changed_since = state["changed_since"]
        self._up = self._is_rolling = True
        if self._retired:
            self._steered_until = time.monotonic() + _STEERED_S
        for slot in self._all_slots():
            for process in slot.processes():
                self._listen_to(slot, process)

    def _adapt_to_settings(self, state: dict[str, Any]) -> None:
        host, port, workers = state["asked"]
        if [host, port] != [self._settings.host, self._settings.port]:
            logger.warning(
                "host and port stay as they are until the server is restarted: %s, port %d.",
                host,
                self._port,
            )
        if workers != self._settings.workers:
            while len(self._slots) < self._settings.workers and self._add_worker():
                pass
            while len(self._slots) > self._settings.workers:
                self._remove_worker()

    def _stop_rolling(self, why: str) -> None:
        self._is_rolling = False
        logger.error("A worker with the new code does not start; the old workers stay. %s", why)
        self._notifier.ready(f"{self._status()}; the last reload failed")

    def _end_rolling_if_done(self) -> None:
        serving = [slot.current for slot in self._slots]
        if all(one and one.is_ready and one.generation == self._generation for one in serving):
            self._is_rolling = False
            logger.info("Reloaded: %s.", self._status())
            self._notifier.ready(self._status())

    def _status(self) -> str:
        count = len(self._slots)
        return f"{count} worker{'s' if count > 1 else ''} on port {self._port}"

    # A worker more or less.

    def _add_worker(self) -> bool:
        if len(self._slots) >= MAX_WORKERS:
            logger.warning("There are %d workers: there can be no more.", MAX_WORKERS)
            return False
        if self._steered_until is not None:
            self._steered_until = None
            self._close_retired()
        try:
            listener = steering.another(self._slots[0].listener, self._settings.backlog)
        except OSError as error:
            logger.error("Cannot listen for a further worker: %s.", error.strerror)
            return False
        index = self._slots[-1].index + 1
        self._slots.append(Slot(index, listener))
        logger.info("One worker more: %s.", self._status())
        return True

    def _remove_worker(self) -> None:
        if len(self._slots) == 1:
            logger.warning("There is one worker: there can be no fewer.")
            return
        slot = self._slots.pop()
        self._retired.append(slot)
        logger.info("One worker less: %s.", self._status())
        # First no new connections, then, when what was under way has come, the end.
        if steering.steer_to(slot.listener, len(self._slots)):
            self._steered_until = time.monotonic() + _STEERED_S
        else:
            self._close_retired()

    def _close_retired(self) -> None:
        for slot in self._retired:
            if slot.listener >= 0:
                os.close(slot.listener)  # the worker's copy is the last, and it empties the queue
                slot.listener = -1
            for process in (slot.current, slot.next):
                if process is not None:
                    self._tell_to_end(slot, process)
            slot.current = slot.next = None
        steering.steer_to_all(self._slots[0].listener)

    # The end.

    def _end(self) -> None:
        """The first time in order; the second time at once."""
        if self._end_by is not None:
            self._kill_all()
            return
        self._notifier.stopping()
        grace = self._settings.timeout_graceful_shutdown + _KILL_AFTER_GRACE_S
        self._end_by = time.monotonic() + grace
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        for slot in self._all_slots():
            if slot.listener >= 0:
                # The worker's copy is the last: when it stops, nobody waits.
                os.close(slot.listener)
                slot.listener = -1
            slot.start_at = None
            for process in (slot.current, slot.next):
                if process is not None:
                    self._signal(process, signal.SIGTERM)

    def _kill_all(self) -> None:
        left = [process.pid for process in self._processes()]
        logger.warning("Killing the workers that have not ended: PID %s.", left)
        for process in self._processes():
            self._signal(process, signal.SIGKILL)
        self._end_by = time.monotonic() + _KILL_AFTER_GRACE_S

    def _signal(self, process: Process, number: signal.Signals) -> None:
        os.kill(process.pid, number)  # not reaped yet, so the PID is still its own

    def _leave(self) -> None:
        """Also after an error of our own: no worker, no listener and no segment stay."""
        if self._probe is not None:
            self._probe.cancel()
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, 0)
            process.close()
        for slot in self._all_slots():
            if slot.listener >= 0:
                os.close(slot.listener)
        if self._changes is not None:
            self._changes.close()
        self._selector.close()
        gc.unfreeze()
        if self._bus is not None:
            leave_bus(self._bus, self._settings, keeps=self._keeps_history())

    # Signals.

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals become bytes on a socket, which the selector waits for."""
        reading, writing = socket.socketpair()
        with reading, writing:
            reading.setblocking(False)
            writing.setblocking(False)
            previous_fd = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
            previous = {number: signal.signal(number, _only_wake) for number in worker.HANDLED}
            self._signals_from = reading
            self._selector.register(reading, selectors.EVENT_READ, self._on_signal)
            # A life before this one has left them blocked.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.HANDLED)
            try:
                yield
            finally:
                self._signals_from = None
                signal.set_wakeup_fd(previous_fd)
                for number, handler in previous.items():
                    signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _on_signal(self) -> None:
        if self._signals_from is None:
            return
        try:
            received = self._signals_from.recv(4096)
        except BlockingIOError:
            return
        for number in received:
            action = self._actions().get(number)
            if action is not None:
                action()

    def _actions(self) -> dict[int, Callable[[], object]]:
        actions: dict[int, Callable[[], object]] = {
            signal.SIGINT: self._end,
            signal.SIGTERM: self._end,
        }
        if self._end_by is None:
            actions |= {
                signal.SIGHUP: self._hang_up,
                signal.SIGTTIN: self._add_worker,
                signal.SIGTTOU: self._remove_worker,
                signal.SIGUSR1: self._reopen_logs,
            }
        return actions

    def _hang_up(self) -> None:
        if self._has_terminal and not _has_terminal():  # its window was closed
            self._end()
        else:
            self._reload()

    def _reopen_logs(self) -> None:
        logs.reopen()
        for process in self._processes():
            self._signal(process, signal.SIGUSR1)
        logger.info("Log files are open anew.")

    def _on_change(self) -> None:
        assert self._changes is not None
        changed = self._changes.read()
        if changed and self._end_by is None:
            logger.info("%s has changed.", changed)
            self._reload()


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """The byte on the wake-up socket is the message."""


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _fork() -> int:
    # Or each worker would write what stands in the buffers once more.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads; `_warn_of_threads` has done so, by name.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _warn_of_threads() -> None:
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        names = ", ".join(thread.name for thread in others)
        logger.warning(
            "Threads that were started before run() do not exist in the workers, and the locks "
            "they hold stay locked there: %s. Start them in a handler instead.",
            names,
        )


def _failure(report: bytearray) -> str:
    text = report[1:].decode(errors="replace").strip()
    return f"The application cannot start.\n{text}" if text else "The application cannot start."


def _manner(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with status {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
