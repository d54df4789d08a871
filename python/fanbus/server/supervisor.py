"""The supervisor that listens, starts workers, replaces those that exit, and ends them in order.

It serves no requests, starts no threads and touches no connections. Each slot has its own listener,
which the supervisor binds before the first fork and holds. When a worker exits, its replacement
serves the connections that wait in the accept queue.

`fanbus.server.reload.manager` describes a reload.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from fanbus import _core
from fanbus.exceptions import STARTING_FAILED, StartError
from fanbus.runtime import fork_handlers, logs, signals
from fanbus.runtime.event_loop import loop_factory
from fanbus.runtime.exit import flush_files
from fanbus.runtime.logs import logger
from fanbus.server.fork import describe_exit, warn_of_threads
from fanbus.server.health import CHECK_INTERVAL_S, HealthMonitor
from fanbus.server.reaper import Reaper
from fanbus.server.reload import reexec
from fanbus.server.reload.manager import ReloadManager
from fanbus.server.rolling_restart import RollingRestart
from fanbus.server.server_bus import ServerBus
from fanbus.server.sockets import open_listeners
from fanbus.server.systemd import Notifier
from fanbus.server.workers import KILL_AFTER_GRACE_S, RunWorker, WorkerExit, Workers

if TYPE_CHECKING:
    from fanbus.config import Settings
    from fanbus.server.slot import Process, Slot

__all__ = ["Supervisor"]


# A faulty bus and all workers are replaced within this time, or the supervisor tries again.
_RENEW_BUS_S = 30.0
# If the bus has no place for a replacement, the next try is after this time.
_NEXT_PLACE_S = 10.0


class Supervisor:
    """Runs an application in worker processes until SIGINT or SIGTERM.

    The first signal ends it in order (SIGTERM to all workers, the grace time, then SIGKILL), the
    second one at once. SIGHUP reloads, SIGTTIN adds a worker, SIGTTOU removes one, SIGUSR1 reopens
    log files.
    """

    _has_code = True
    """Whether this process has an application, and can fork workers."""

    def __init__(
        self,
        settings: Settings,
        *,
        bus: ServerBus,
        run_worker: RunWorker,
        on_ready: Callable[[int], None],
    ) -> None:
        """`run_worker` is called in each worker process after its fork. `on_ready` is called once
        with the port, when all workers serve."""
        self._settings = settings
        self._bus = bus
        self._run_worker = run_worker
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._signals = signals.Signals()
        self._has_terminal = signals.has_terminal()
        self._notifier = Notifier()
        self._workers = Workers(settings, self._selector, on_ready=self._worker_is_ready)
        self._rolling = RollingRestart(self._workers)
        self._health = HealthMonitor(settings, self._workers)
        self._reloads = ReloadManager(
            settings,
            self._workers,
            self._rolling,
            self._notifier,
            status=self._status,
            state=self._state,
            handle_signals=self._handle_pending_signals,
        )
        self._reaper: Reaper | None = None
        self._port = settings.port
        self._on_ready = on_ready
        self._check_bus_at = 0.0
        self._is_up = False
        self._failure: str | None = None
        self._kill_at: float | None = None
        """The time at which all workers are killed; None while the server runs."""

    def run(self) -> None:
        """Runs the server, and returns after its end. StartError if it cannot start."""
        logs.set_role("supervisor")
        state = reexec.handed_over_state()
        reexec.application_imported()
        # The signals are caught until the end, so that no signal leaves a segment or a worker.
        with self._signals.caught() as caught:
            self._selector.register(caught, selectors.EVENT_READ, self._on_signal)
            if state is None:
                self._port, bound = open_listeners(self._settings)
                self._workers.listen_on(bound)
            else:
                self._resume(state)
            with self._or_fallback():
                self._open_bus()
            try:
                with self._or_fallback():
                    self._prepare(state)
                reexec.complete()
                self._run_loop()
            finally:
                self._close()
        if self._failure is not None:
            raise StartError(self._failure, status=STARTING_FAILED)

    def _prepare(self, state: dict[str, Any] | None) -> None:
        self._reaper = Reaper(self._children())
        warn_of_threads()
        if self._settings.watches_files:
            self._reloads.watch_files(
                self._selector, self._bus, state or {}, has_code=self._has_code
            )
        # The workers share the objects of now. A later collection would copy their pages.
        loop_factory(self._settings.loop)
        flush_files()  # otherwise each worker would write the buffered output at its end
        gc.collect()
        gc.freeze()
        _core.give_back_memory()  # otherwise each worker would hold the free memory of imports
        self._adapt_to(state)

    def _adapt_to(self, state: dict[str, Any] | None) -> None:
        """Applies changes of the settings after a re-exec with `state`."""
        if state is None:
            return
        host, port, workers = state["asked"]
        if [host, port] != [self._settings.host, self._settings.port]:
            logger.warning(
                "host and port stay as they are until the server is restarted: %s, port %d.",
                host,
                self._port,
            )
        if workers != self._settings.workers:
            while len(self._workers.slots) < self._settings.workers and self._add_worker():
                pass
            while len(self._workers.slots) > self._settings.workers:
                self._remove_worker()

    @contextmanager
    def _or_fallback(self) -> Iterator[None]:
        """If this process fails after a re-exec, the fallback supervisor takes over the workers."""
        try:
            yield
        except Exception as error:
            if reexec.has_fallback():
                signals.block()
                if self._handle_pending_signals():
                    is_expected = isinstance(error, StartError)
                    reexec.start_fallback(
                        str(error) if is_expected else traceback.format_exc().strip()
                    )
            raise

    def _open_bus(self) -> None:
        self._bus.open(self._port, joined=len(self._workers.pids()))

    # The loop. It sleeps until a signal, a report, or the next time that is due.

    def _run_loop(self) -> None:
        now = time.monotonic()
        for slot in self._workers.slots:
            if slot.current is None and slot.start_at is None:
                slot.start_at = now
        self._reloads.begin_if_changed()
        while True:
            if self._kill_at is None:
                self._start_due_workers(time.monotonic())
                self._reloads.ensure_standby()
            elif not any(self._workers.processes()):
                return
            for key, _ in self._selector.select(self._timeout()):
                key.data()
            self._reap_workers()
            if self._kill_at is None:
                self._reloads.check.poll()
            self._check_processes(time.monotonic())

    def _timeout(self) -> float | None:
        workers = self._workers
        due = [process.kill_at for process in workers.processes()]
        due += [slot.start_at for slot in workers.slots if slot.current is None]
        due += [
            self._kill_at,
            workers.scale_down.limited_until,
            self._notifier.due_at(),
            self._reloads.check.due_at(),
        ]
        now = time.monotonic()
        if self._kill_at is None and any(workers.processes()):
            due.append(now + CHECK_INTERVAL_S)
        times = [at for at in due if at is not None]
        return max(0.0, min(times) - now) if times else None

    def _check_processes(self, now: float) -> None:
        self._notifier.watchdog(now)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_all()
        self._health.check(now, is_ending=self._kill_at is not None)
        if self._kill_at is None and now >= self._check_bus_at:
            self._check_bus(now)

    def _check_bus(self, now: float) -> None:
        """Replaces the bus and all workers if the bus was removed or damaged, or lost its name."""
        self._check_bus_at = now + CHECK_INTERVAL_S
        fault = self._bus.fault()
        if fault is None:
            return
        self._bus.remove(fault, "new workers take over")
        self._check_bus_at = now + _RENEW_BUS_S
        # After the re-exec, this process opens a new bus before it starts workers.
        self._reloads.begin()

    def _children(self) -> set[int]:
        """The IDs of the children that this process has started."""
        return self._workers.pids() | self._reloads.pids()

    # Starting workers.

    def _start_due_workers(self, now: float) -> None:
        for slot in self._workers.slots:
            if slot.current is None and (slot.start_at is None or slot.start_at <= now):
                self._start(slot)
        for slot in self._workers.advance_scale_down(now):
            if slot.start_at is None or slot.start_at <= now:
                self._start(slot)
        replaced = self._rolling.next_slot(now)
        if replaced is None:
            self._reloads.report_completion()
        elif self._has_place_to_replace(replaced, now):
            self._start(replaced)

    def _has_place_to_replace(self, slot: Slot, now: float) -> bool:
        """Whether the bus has a place for one more worker. If not, the old worker stays."""
        reason = self._why_no_place()
        if reason is None:
            return True
        if any(one.leaving for one in self._workers.all_slots()):
            return False  # a worker that ends makes a place free
        if self._rolling.is_on:
            self._reloads.stop_rolling(reason)
        else:
            logger.error("Worker %d cannot be replaced now. %s", slot.index, reason)
            slot.start_at = now + _NEXT_PLACE_S
        return False

    def _why_no_place(self) -> str | None:
        """Why the bus has no place for one more worker than there are or will be. None: it has."""
        workers = self._workers
        missing = sum(slot.current is None for slot in workers.slots)
        return self._bus.why_no_place(1 + len(workers.pids()) + missing + 1)

    def _start(self, slot: Slot) -> None:
        if self._reloads.start_worker(slot):
            return

        def run(report: int, trace: int) -> NoReturn:
            self._become_worker(slot, report, trace)

        self._workers.fork(slot, self._rolling.generation, run)

    def _become_worker(self, slot: Slot, report: int, trace: int) -> NoReturn:
        self._reloads.close()
        self._selector.close()
        self._signals.let_go()
        fork_handlers.disown()
        logs.set_role(f"worker {slot.index}")
        self._run_worker(
            listener=slot.listener,
            bus=self._bus.identity,
            report=report,
            trace=trace,
            supervisor_pid=self._pid,
        )

    def _worker_is_ready(self, _slot: Slot, _process: Process) -> None:
        if self._is_up:
            return
        if all(one.current and one.current.is_ready for one in self._workers.slots):
            self._is_up = True
            self._on_ready(self._port)
            self._notifier.ready(self._status())

    def _status(self) -> str:
        count = len(self._workers.slots)
        return f"{count} worker{'s' if count > 1 else ''} on port {self._port}"

    # Exits of workers.

    def _reap_workers(self) -> None:
        for one in self._workers.reap():
            self._bus.core.reap()
            self._handle_exit(one)
        self._workers.scale_down.drop_closed()
        if self._reaper is not None:
            self._reaper.reap(self._children())

    def _handle_exit(self, ended: WorkerExit) -> None:
        slot, process = ended.slot, ended.process
        if process in slot.leaving:
            slot.leaving.remove(process)
            if ended.exit_code and process.is_ready and self._kill_at is None:
                how = describe_exit(ended.exit_code)
                logger.warning("Old worker %d (PID %d) %s.", slot.index, process.pid, how)
            return
        pause = slot.note_exit(time.monotonic())
        was_next = process is slot.next
        if was_next:
            slot.next = None
        else:
            slot.current, slot.next = slot.next, None
        if self._kill_at is not None:
            return
        cannot_start = ended.exit_code == STARTING_FAILED and not process.is_ready
        if cannot_start and not self._is_up and self._rolling.generation == 0:
            if self._failure is None:
                self._failure = _failure_of(process)
            self._end()
            return
        is_newest = was_next and process.generation == self._rolling.generation
        if is_newest and cannot_start:
            self._reloads.stop_rolling(_failure_of(process))
            return
        stacks = f" Its threads were:\n{ended.stacks}" if ended.stacks else ""
        if is_newest and not process.is_ready and self._reloads.on_change is not None:
            # The same code would fail again, so the next change must come first.
            self._reloads.stop_rolling(f"It {describe_exit(ended.exit_code)}.{stacks}")
            return
        if cannot_start:
            logger.error("Worker %d could not start. %s", slot.index, _failure_of(process))
        logger.error(
            "Worker %d (PID %d) %s; %s.%s",
            slot.index,
            process.pid,
            describe_exit(ended.exit_code),
            self._next_step(slot, pause),
            stacks,
        )

    def _next_step(self, slot: Slot, pause: float) -> str:
        if slot not in self._workers.slots:
            return "the worker was being removed"
        return f"next start in {pause:.2g} s" if pause else "replaced at once"

    # The state over a re-exec.

    def _state(self) -> dict[str, Any]:
        return {
            **self._workers.to_json(),
            "port": self._port,
            "asked": [self._settings.host, self._settings.port, self._settings.workers],
            "generation": self._rolling.generation,
            "bus": self._bus.name,
            # For the fallback supervisor, if the new code fails after the exec.
            "settings": self._settings.to_json(),
            "retains_history": self._bus.retains_history,
            "limit_s": self._settings.timeout_worker_boot,
            "signals": sorted(signals.HANDLED),
        }

    def _resume(self, state: dict[str, Any]) -> None:
        """Continues with the workers from before the re-exec."""
        self._port = state["port"]
        self._workers.resume(state)
        self._is_up = True
        self._rolling.begin(state["generation"] + 1)

    # Adding and removing workers.

    def _add_worker(self) -> bool:
        reason = self._why_no_place()
        if reason is not None:
            logger.error("No worker can be added. %s", reason)
            return False
        added = self._workers.add_slot()
        if added:
            logger.info("Added one worker: %s.", self._status())
        return added

    def _remove_worker(self) -> None:
        if self._workers.remove_slot():
            logger.info("Removed one worker: %s.", self._status())

    # The end.

    def _end(self) -> None:
        """Ends the server: the first call in order, the second one at once."""
        if self._kill_at is not None:
            self._kill_all()
            return
        self._notifier.stopping()
        grace = self._settings.timeout_graceful_shutdown + KILL_AFTER_GRACE_S
        self._kill_at = time.monotonic() + grace
        self._reloads.end()
        self._workers.end_all()

    def _kill_all(self) -> None:
        left = sorted(self._workers.pids())
        logger.warning("Killing the workers that have not ended: PID %s.", left)
        self._workers.send_all(signal.SIGKILL)
        self._kill_at = time.monotonic() + KILL_AFTER_GRACE_S

    def _close(self) -> None:
        """Closes everything, also after an error: no worker, no listener and no segment stay."""
        self._reloads.end()
        self._workers.close()
        self._reloads.close()
        self._selector.close()
        gc.unfreeze()
        self._bus.close()

    # Signals.

    def _handle_pending_signals(self) -> bool:
        """Handles signals that have been delivered. Returns False if the server ends."""
        self._on_signal()
        return self._kill_at is None

    def _on_signal(self) -> None:
        for number in self._signals.read():
            action = self._actions().get(number)
            if action is not None:
                action()

    def _actions(self) -> dict[int, Callable[[], object]]:
        actions: dict[int, Callable[[], object]] = {
            signal.SIGINT: self._end,
            signal.SIGTERM: self._end,
            signal.SIGQUIT: self._end,
        }
        if self._kill_at is None:
            actions |= {
                signal.SIGHUP: self._handle_hangup,
                signal.SIGTTIN: self._add_worker,
                signal.SIGTTOU: self._remove_worker,
                signal.SIGUSR1: self._reopen_logs,
                signal.SIGUSR2: self._explain_usr2,
            }
        return actions

    def _handle_hangup(self) -> None:
        if self._has_terminal and not signals.has_terminal():  # its window was closed
            self._end()
        else:
            self._reloads.begin()

    def _explain_usr2(self) -> None:
        logger.info("SIGUSR2 has no meaning for this server. For new code send SIGHUP.")

    def _reopen_logs(self) -> None:
        logs.reopen()
        self._workers.send_all(signal.SIGUSR1)
        logger.info("Reopened the log files.")


def _failure_of(process: Process) -> str:
    """Why a worker could not start, from its report."""
    text = process.failure[1:].decode(errors="replace").strip()
    return f"The application cannot start.\n{text}" if text else "The application cannot start."
