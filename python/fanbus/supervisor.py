"""The supervisor: it listens, forks the workers, replaces those that die, and ends them in order.

It serves nothing itself, starts no thread, and touches no connection. Each worker slot has its
own listener, bound here before the first fork and kept here: when a worker dies, the connections
that wait in its accept queue are served by its replacement.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from fanbus import _core, banner, logs, worker
from fanbus.exceptions import StartError
from fanbus.logs import logger
from fanbus.server import check_tls, leave_bus, open_bus, open_listeners

if TYPE_CHECKING:
    from fanbus.app import Fanbus
    from fanbus.config import Settings

__all__ = ["Slot", "Supervisor"]

# A worker that lived longer than this was well: its death is no part of a crash loop.
_WELL_AFTER_S = 10.0
# Deaths in a row that are replaced at once; then each pause is twice the last.
_AT_ONCE = 3
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
# A worker ends itself when its grace time is over; this is for one that cannot.
_KILL_AFTER_GRACE_S = 2.0


@dataclass
class Slot:
    """One worker's place: its listener stays, its process changes."""

    index: int
    listener: int
    pid: int | None = None
    report: int | None = None
    """Reading end of the worker's report, until it has told that it is ready, or why not."""

    reported: bytearray = field(default_factory=bytearray)
    started_at: float = 0.0
    quick_deaths: int = 0
    """Deaths in a row, each soon after the start."""

    start_at: float | None = None
    """When the next worker of this slot is due (time.monotonic). None: it lives."""

    def died(self, now: float) -> float:
        """Notes a death; returns the pause before the replacement, in seconds."""
        lived = now - self.started_at
        self.quick_deaths = self.quick_deaths + 1 if lived < _WELL_AFTER_S else 1
        pause = 0.0
        if self.quick_deaths > _AT_ONCE:
            doubled = _FIRST_PAUSE_S * 2 ** min(self.quick_deaths - _AT_ONCE - 1, 16)
            pause = min(doubled, _LONGEST_PAUSE_S)
        self.pid = None
        self.start_at = now + pause
        return pause


class Supervisor:
    """Runs an application in worker processes until SIGINT or SIGTERM.

    The first signal ends it in order (SIGTERM to all workers, the grace time, then SIGKILL), a
    second one at once.
    """

    def __init__(self, app: Fanbus, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._pid = os.getpid()
        self._slots: list[Slot] = []
        self._selector = selectors.DefaultSelector()
        self._port = settings.port
        self._bus: _core.Bus | None = None
        self._up = False
        self._failure: str | None = None
        self._kill_at: float | None = None
        """When the workers' time to end is over; None while the server runs."""

    def run(self) -> None:
        """Returns after a clean end. StartError if the server cannot start."""
        logs.set_role("supervisor")
        check_tls(self._settings)
        self._port, listeners = open_listeners(self._settings)
        self._slots = [Slot(index, listener) for index, listener in enumerate(listeners, 1)]
        self._bus = open_bus(self._app, self._settings, self._port)
        with self._signals():  # also while leaving: a second Ctrl+C leaves nothing behind
            try:
                _warn_of_threads()
                # The workers share what is there now; a collection would copy it into each.
                gc.collect()
                gc.freeze()
                self._watch()
            finally:
                self._leave()
        if self._failure is not None:
            raise StartError(self._failure, status=worker.STARTING_FAILED)

    # The loop: it sleeps until a signal, a report, or the next thing that is due.

    def _watch(self) -> None:
        now = time.monotonic()
        for slot in self._slots:
            slot.start_at = now
        while True:
            self._start_due_workers()
            if self._kill_at is not None and not any(slot.pid for slot in self._slots):
                return
            for key, _ in self._selector.select(self._timeout()):
                key.data()
            self._bury_the_dead()
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill_all()

    def _timeout(self) -> float | None:
        due = [slot.start_at for slot in self._slots if slot.start_at is not None]
        if self._kill_at is not None:
            due = [self._kill_at]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _start_due_workers(self) -> None:
        if self._kill_at is not None:
            return
        now = time.monotonic()
        for slot in self._slots:
            if slot.start_at is not None and slot.start_at <= now:
                self._start(slot)

    def _start(self, slot: Slot) -> None:
        reading, writing = os.pipe()
        # Until the child has its own handlers, a signal to it would speak in the parent's name.
        signal.pthread_sigmask(signal.SIG_BLOCK, worker.HANDLED)
        try:
            pid = _fork()
        except OSError as error:
            os.close(reading)
            os.close(writing)
            slot.started_at = time.monotonic()
            pause = slot.died(slot.started_at)
            logger.error(
                "Cannot fork worker %d: %s. Next try in %.2g s.", slot.index, error.strerror, pause
            )
            return
        else:
            if pid == 0:
                os.close(reading)
                self._become_worker(slot, writing)
        finally:
            if os.getpid() == self._pid:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.HANDLED)
        os.close(writing)
        os.set_blocking(reading, False)
        slot.pid, slot.report, slot.start_at = pid, reading, None
        slot.started_at = time.monotonic()
        slot.reported.clear()
        self._selector.register(reading, selectors.EVENT_READ, lambda: self._read_report(slot))

    def _become_worker(self, slot: Slot, report: int) -> NoReturn:
        assert self._bus is not None
        for other in self._slots:
            if other.report is not None:
                os.close(other.report)
            if other is not slot:
                os.close(other.listener)
        self._selector.close()
        logs.set_role(f"worker {slot.index}")
        worker.main(
            self._app,
            self._settings,
            listener=slot.listener,
            bus_name=self._bus.name,
            report=report,
            supervisor_pid=self._pid,
        )

    # What workers tell.

    def _read_report(self, slot: Slot, *, is_dead: bool = False) -> None:
        assert slot.report is not None
        try:
            received = os.read(slot.report, 65536)
        except BlockingIOError:
            received = b""
            if not is_dead:
                return
        slot.reported += received
        if slot.reported[:1] != worker.READY and received:
            return  # the rest of a traceback follows
        self._selector.unregister(slot.report)
        os.close(slot.report)
        slot.report = None
        if slot.reported[:1] == worker.READY and not self._up:
            self._announce_when_all_are_ready()

    def _announce_when_all_are_ready(self) -> None:
        if all(slot.reported[:1] == worker.READY for slot in self._slots):
            self._up = True
            banner.show(self._settings, self._port, self._app._counts(), self._pid)

    def _bury_the_dead(self) -> None:
        for slot in self._slots:
            if slot.pid is None:
                continue
            try:
                pid, status = os.waitpid(slot.pid, os.WNOHANG)
            except ChildProcessError:  # the application waits for children of others
                pid, status = slot.pid, 0
            if pid:
                self._bury(slot, os.waitstatus_to_exitcode(status))

    def _bury(self, slot: Slot, exit_code: int) -> None:
        pid = slot.pid
        while slot.report is not None:
            self._read_report(slot, is_dead=True)
        assert self._bus is not None
        self._bus.reap()
        pause = slot.died(time.monotonic())
        if self._kill_at is not None:
            slot.start_at = None
            return
        if exit_code == worker.STARTING_FAILED and not self._up:
            if self._failure is None:
                self._failure = _failure(slot.reported)
            self._end()
            return
        if exit_code == worker.STARTING_FAILED:
            logger.error("Worker %d could not start again. %s", slot.index, _failure(slot.reported))
        logger.error(
            "Worker %d (PID %d) %s; %s.",
            slot.index,
            pid,
            _manner(exit_code),
            f"next start in {pause:.2g} s" if pause else "replaced at once",
        )

    # The end.

    def _end(self) -> None:
        """The first time in order; the second time at once."""
        if self._kill_at is not None:
            self._kill_all()
            return
        grace = self._settings.timeout_graceful_shutdown + _KILL_AFTER_GRACE_S
        self._kill_at = time.monotonic() + grace
        for slot in self._slots:
            os.close(slot.listener)  # the worker's copy is the last: when it stops, nobody waits
            slot.listener = -1
            slot.start_at = None
        self._signal_all(signal.SIGTERM)

    def _kill_all(self) -> None:
        left = [slot.pid for slot in self._slots if slot.pid is not None]
        logger.warning("Killing the workers that have not ended: PID %s.", left)
        self._signal_all(signal.SIGKILL)
        self._kill_at = time.monotonic() + _KILL_AFTER_GRACE_S

    def _signal_all(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.pid is not None:
                os.kill(slot.pid, number)  # not reaped yet, so the PID is still its own

    def _leave(self) -> None:
        """Also after an error of our own: no worker, no listener and no segment stay."""
        for slot in self._slots:
            if slot.pid is not None:
                os.kill(slot.pid, signal.SIGKILL)
                os.waitpid(slot.pid, 0)
            for descriptor in (slot.listener, slot.report):
                if descriptor is not None and descriptor >= 0:
                    os.close(descriptor)
        self._selector.close()
        gc.unfreeze()
        if self._bus is not None:
            leave_bus(self._app, self._bus, self._settings)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals become bytes on a socket, which the selector waits for."""
        reading, writing = socket.socketpair()
        with reading, writing:
            reading.setblocking(False)
            writing.setblocking(False)
            previous_fd = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
            previous = {number: signal.signal(number, _only_wake) for number in worker.HANDLED}
            on_signal = self._on_signal(reading)
            self._selector.register(reading, selectors.EVENT_READ, on_signal)
            try:
                yield
            finally:
                signal.set_wakeup_fd(previous_fd)
                for number, handler in previous.items():
                    signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _on_signal(self, reading: socket.socket) -> Callable[[], None]:
        def read() -> None:
            for number in reading.recv(4096):
                if number in (signal.SIGINT, signal.SIGTERM):
                    self._end()

        return read


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    """The byte on the wake-up socket is the message."""


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
