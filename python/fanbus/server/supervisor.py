"""The supervisor: it listens, has workers forked, replaces those that die, and ends them in order.

It serves nothing itself, starts no thread, and touches no connection. Each worker slot has its
own listener, bound here before the first fork and kept here: when a worker dies, the connections
that wait in its accept queue are served by its replacement.

A reload (SIGHUP) is three steps. A probe finds out whether the new code starts (`reloading`). Then
this process starts anew in its own place (`rebirth`), with the same children and the new code.
Then, one slot after the other, a new worker boots, and the old one ends when the new one serves
(`rolling`).
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from fanbus import _core
from fanbus.exceptions import BusError, StartError
from fanbus.runtime import fork_handlers, logs, signals, worker
from fanbus.runtime.event_loop import loop_factory
from fanbus.runtime.exit import flush_files
from fanbus.runtime.logs import logger
from fanbus.server.fork import manner, warn_of_threads
from fanbus.server.health import CHECK_INTERVAL_S, HealthMonitor
from fanbus.server.reaper import Reaper
from fanbus.server.reload import reexec, start_command
from fanbus.server.reload.check import ReloadCheck
from fanbus.server.reload.start_command import Invocation
from fanbus.server.resources import leave_bus, open_bus, retains_history
from fanbus.server.rolling_restart import RollingRestart
from fanbus.server.sockets import open_listeners
from fanbus.server.systemd import Notifier
from fanbus.server.workers import KILL_AFTER_GRACE_S, Death, Workers

if TYPE_CHECKING:
    from fanbus.config import Settings
    from fanbus.history import RetentionRule
    from fanbus.server.reload.on_change import ReloadOnChange
    from fanbus.server.slot import Process, Slot

__all__ = ["RunWorker", "Supervisor"]


class RunWorker(Protocol):
    """`fanbus.runtime.worker.main` with its application and its settings."""

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


# A faulty bus is given so long to be replaced, workers and all, before that is tried once more.
RENEW_BUS_S = 30.0
# If the bus has no place for a worker that is to replace another one, when that is tried again.
NEXT_PLACE_S = 10.0


class Supervisor:
    """Runs an application in worker processes until SIGINT or SIGTERM.

    The first signal ends it in order (SIGTERM to all workers, the grace time, then SIGKILL), a
    second one at once. SIGHUP reloads, SIGTTIN and SIGTTOU mean a worker more or less, SIGUSR1
    reopens log files.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        application_name: str,
        retention_rules: Sequence[RetentionRule],
        run_worker: RunWorker,
        on_ready: Callable[[int], None],
    ) -> None:
        """`application_name` and `retention_rules` are for the bus. `run_worker` is called in each
        forked worker process. `on_ready` is called once with the port, when all workers serve.
        """
        self._settings = settings
        self._application_name = application_name
        self._retention_rules = retention_rules
        self._run_worker = run_worker
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._signals = signals.Signals()
        self._has_terminal = signals.has_terminal()
        self._notifier = Notifier()
        self._workers = Workers(settings, self._selector, on_ready=self._worker_is_ready)
        self._rolling = RollingRestart(self._workers)
        self._health = HealthMonitor(settings, self._workers)
        self._reload_check = ReloadCheck(
            settings,
            on_begin=self._notifier.reloading,
            on_good=self._reexec,
            on_bad=self._keep_old_code,
        )
        self._reload_on_change: ReloadOnChange | None = None
        self._reaper: Reaper | None = None
        self._port = settings.port
        self._on_ready = on_ready
        self._bus: _core.Bus | None = None
        self._check_bus_at = 0.0
        self._up = False
        self._failure: str | None = None
        self._end_by: float | None = None
        """When the workers' time to end is over; None while the server runs."""

    def run(self) -> None:
        """Returns after a clean end. StartError if the server cannot start."""
        logs.set_role("supervisor")
        state = reexec.handed_over_state()
        reexec.application_imported()
        # Until nothing is left: whenever a signal comes, no segment and no worker stays.
        with self._signals.caught() as caught:
            self._selector.register(caught, selectors.EVENT_READ, self._on_signal)
            if state is None:
                self._port, bound = open_listeners(self._settings)
                self._workers.listen_on(bound)
            else:
                self._resume(state)
            with self._or_fallback():
                self._bus = self._open_bus()
            try:
                with self._or_fallback():
                    self._prepare(state)
                reexec.complete()
                self._watch()
            finally:
                self._leave()
        if self._failure is not None:
            raise StartError(self._failure, status=worker.STARTING_FAILED)

    def _prepare(self, state: dict[str, Any] | None) -> None:
        self._reaper = Reaper(self._children())
        warn_of_threads()
        if self._settings.watches_files:
            self._reload_on_change = self._watch_files(state or {})
        # The workers share what is there now; a collection would copy it into each.
        loop_factory(self._settings.loop)
        flush_files()  # or each worker would write at its end what stands in the buffers
        gc.collect()
        gc.freeze()
        _core.give_back_memory()  # or each would hold what imports have left
        self._begin(state)

    def _watch_files(self, state: dict[str, Any]) -> ReloadOnChange:
        # Here, so that a server whose code stays the same goes without them.
        from fanbus.server.reload import standby
        from fanbus.server.reload.on_change import ReloadOnChange
        from fanbus.server.reload.watch import Changes

        assert self._bus is not None
        since, known = state.get("changed_since"), state.get("directories", ())
        return ReloadOnChange(
            Changes(self._settings, since=since, known=known),
            self._selector,
            self._workers,
            self._rolling,
            command=self._invocation(),
            bus=(self._bus.name, self._bus.epoch),
            compatibility_key=standby.compatibility_key(
                self._application_name, self._retention_rules, self._settings
            ),
            on_begin=self._notifier.reloading,
            reload=self._reload_check.begin,
        )

    def _invocation(self) -> Invocation | None:
        """The command for a standby process; None if there can be none."""
        return Invocation.parse(start_command.command(), start_command.ARGUMENTS)

    def _begin(self, state: dict[str, Any] | None) -> None:
        if state is not None:
            self._adapt_to_settings(state)

    @contextmanager
    def _or_fallback(self) -> Iterator[None]:
        """If a life after a reload cannot begin, the caretaker does, and the workers stay."""
        try:
            yield
        except Exception as error:
            if reexec.has_fallback():
                signals.block()
                self._on_signal()
                if self._end_by is None:
                    told = isinstance(error, StartError)
                    reexec.start_fallback(str(error) if told else traceback.format_exc().strip())
            raise

    def _open_bus(self) -> _core.Bus:
        return open_bus(
            self._application_name,
            self._retention_rules,
            self._settings,
            self._port,
            joined=len(self._workers.pids()),
        )

    def _retains_history(self) -> bool:
        return retains_history(self._retention_rules)

    # The loop: it sleeps until a signal, a report, or the next thing that is due.

    def _watch(self) -> None:
        now = time.monotonic()
        for slot in self._workers.slots:
            if slot.current is None and slot.start_at is None:
                slot.start_at = now
        if self._reload_on_change is not None:
            self._reload_on_change.begin_if_changed()
        while True:
            if self._end_by is None:
                self._start_due_workers(time.monotonic())
                if self._reload_on_change is not None:
                    self._reload_on_change.keep_ready()
            elif not any(self._workers.processes()):
                return
            for key, _ in self._selector.select(self._timeout()):
                key.data()
            self._reap_workers()
            if self._end_by is None:
                self._reload_check.hear()
            self._check_processes(time.monotonic())

    def _timeout(self) -> float | None:
        workers = self._workers
        due = [process.end_by for process in workers.processes()]
        due += [slot.start_at for slot in workers.slots if slot.current is None]
        due += [
            self._end_by,
            workers.scale_down.steered_until,
            self._notifier.due_at(),
            self._reload_check.due_at(),
        ]
        now = time.monotonic()
        if self._end_by is None and any(workers.processes()):
            due.append(now + CHECK_INTERVAL_S)
        some = [at for at in due if at is not None]
        return max(0.0, min(some) - now) if some else None

    def _check_processes(self, now: float) -> None:
        self._notifier.watchdog(now)
        if self._end_by is not None and now >= self._end_by:
            self._kill_all()
        self._health.check(now, is_ending=self._end_by is not None)
        if self._end_by is None and now >= self._check_bus_at:
            self._check_bus(now)

    def _check_bus(self, now: float) -> None:
        """If the bus was removed or damaged, or has lost its name: another one, and new workers."""
        self._check_bus_at = now + CHECK_INTERVAL_S
        fault = self._bus.fault() if self._bus is not None else None
        if fault is None:
            return
        assert self._bus is not None
        logger.error(
            "The bus %r %s while the server runs. A new bus is created: clients of WebSockets and "
            "event streams are closed, and new workers take over.",
            self._bus.name,
            fault,
        )
        # Whoever has it open is told, so that nobody publishes to the half that stays.
        self._bus.remove()
        self._check_bus_at = now + RENEW_BUS_S
        # The next life of this process makes it, before it starts workers.
        self._reload_check.begin()

    def _children(self) -> set[int]:
        waiting = self._reload_on_change.pids() if self._reload_on_change is not None else set()
        return self._workers.pids() | self._reload_check.pids() | waiting

    # Workers come.

    def _start_due_workers(self, now: float) -> None:
        for slot in self._workers.slots:
            if slot.current is None and (slot.start_at is None or slot.start_at <= now):
                self._start(slot)
        for slot in self._workers.advance_scale_down(now):
            if slot.start_at is None or slot.start_at <= now:
                self._start(slot)
        renewed = self._rolling.due(now)
        if renewed is not None:
            if self._has_place_to_renew(renewed, now):
                self._start(renewed)
        elif self._rolling.has_ended():
            logger.info("Reloaded: %s.", self._status())
            self._notifier.ready(self._status())

    def _has_place_to_renew(self, slot: Slot, now: float) -> bool:
        """Whether the bus has a place for one more worker. Else the slot's old one stays."""
        why = self._why_no_place()
        if why is None:
            return True
        if any(one.leaving for one in self._workers.all_slots()):
            return False  # its place will do
        if self._rolling.is_on:
            self._stop_rolling(why)
        else:
            logger.error("Worker %d cannot be replaced now. %s", slot.index, why)
            slot.start_at = now + NEXT_PLACE_S
        return False

    def _why_no_place(self) -> str | None:
        """Why the bus has no place for one worker more than there are or will be; None: it has."""
        assert self._bus is not None
        workers = self._workers
        coming = sum(slot.current is None for slot in workers.slots)
        try:
            self._bus.reserve_places(1 + len(workers.pids()) + coming + 1)
        except BusError as error:
            return str(error)
        return None

    def _start(self, slot: Slot) -> None:
        if self._reload_on_change is not None and self._reload_on_change.starts_workers():
            self._reload_on_change.start(slot)
            return

        def live(report: int, trace: int) -> NoReturn:
            self._become_worker(slot, report, trace)

        self._workers.fork(slot, self._rolling.generation, live)

    def _become_worker(self, slot: Slot, report: int, trace: int) -> NoReturn:
        assert self._bus is not None
        if self._reload_on_change is not None:
            self._reload_on_change.close()
        self._selector.close()
        self._signals.let_go()
        fork_handlers.disown()
        logs.set_role(f"worker {slot.index}")
        self._run_worker(
            listener=slot.listener,
            bus=(self._bus.name, self._bus.epoch),
            report=report,
            trace=trace,
            supervisor_pid=self._pid,
        )

    def _worker_is_ready(self, _slot: Slot, _process: Process) -> None:
        if self._up:
            return
        if all(one.current and one.current.is_ready for one in self._workers.slots):
            self._up = True
            self._on_ready(self._port)
            self._notifier.ready(self._status())

    def _status(self) -> str:
        count = len(self._workers.slots)
        return f"{count} worker{'s' if count > 1 else ''} on port {self._port}"

    # Workers go.

    def _reap_workers(self) -> None:
        for death in self._workers.dead():
            assert self._bus is not None
            self._bus.reap()
            self._take_note_of(death)
        self._workers.scale_down.forget()
        if self._reaper is not None:
            self._reaper.reap(self._children())

    def _take_note_of(self, death: Death) -> None:
        slot, process = death.slot, death.process
        if process in slot.leaving:
            slot.leaving.remove(process)
            if death.exit_code and process.is_ready and self._end_by is None:
                how = manner(death.exit_code)
                logger.warning("Old worker %d (PID %d) %s.", slot.index, process.pid, how)
            return
        pause = slot.died(time.monotonic())
        was_next = process is slot.next
        if was_next:
            slot.next = None
        else:
            slot.current, slot.next = slot.next, None
        if self._end_by is not None:
            return
        cannot_start = death.exit_code == worker.STARTING_FAILED and not process.is_ready
        if cannot_start and not self._up and self._rolling.generation == 0:
            if self._failure is None:
                self._failure = _failure(process)
            self._end()
            return
        is_newest = was_next and process.generation == self._rolling.generation
        if is_newest and cannot_start:
            self._stop_rolling(_failure(process))
            return
        stacks = f" Its threads were:\n{death.stacks}" if death.stacks else ""
        if is_newest and not process.is_ready and self._reload_on_change is not None:
            # The same code would do the same again; the next change is waited for.
            self._stop_rolling(f"It {manner(death.exit_code)}.{stacks}")
            return
        if cannot_start:
            logger.error("Worker %d could not start. %s", slot.index, _failure(process))
        logger.error(
            "Worker %d (PID %d) %s; %s.%s",
            slot.index,
            process.pid,
            manner(death.exit_code),
            self._what_follows(slot, pause),
            stacks,
        )

    def _what_follows(self, slot: Slot, pause: float) -> str:
        if slot not in self._workers.slots:
            return "the worker was being removed"
        return f"next start in {pause:.2g} s" if pause else "replaced at once"

    # New code.

    def _keep_old_code(self, why: str) -> None:
        logger.error("The new code does not start; the workers go on with the old code.\n%s", why)
        self._notifier.ready(f"{self._status()}; the last reload failed")

    def _stop_rolling(self, why: str) -> None:
        self._rolling.stop()
        logger.error("A worker with the new code does not start; the old workers stay. %s", why)
        self._notifier.ready(f"{self._status()}; the last reload failed")

    def _reexec(self, since: float) -> None:
        """The new code starts: this process goes on with it, in its next life."""
        # Pending signals outlive the exec; what has been delivered is carried out before it.
        signals.block()
        try:
            self._on_signal()
            if self._end_by is not None or self._reload_check.is_open():
                return
            if wrong := reexec.wrong_script():
                self._keep_old_code(wrong)
                return
            if self._reload_on_change is not None:
                self._reload_on_change.cancel()
            reexec.reexec(self._state(since), self._workers.descriptors())
        except OSError as error:
            self._keep_old_code(f"{sys.executable} cannot be executed: {error.strerror}.")
        finally:
            signals.unblock()

    def _state(self, since: float) -> dict[str, Any]:
        return {
            **self._workers.to_json(),
            "port": self._port,
            "asked": [self._settings.host, self._settings.port, self._settings.workers],
            "generation": self._rolling.generation,
            "changed_since": since,
            "bus": self._bus.name if self._bus is not None else None,
            # For the caretaker, if this has to be the last life with this code.
            "settings": self._settings.to_json(),
            "retains_history": self._retains_history(),
            "directories": self._reload_on_change.directories() if self._reload_on_change else [],
            "limit_s": self._settings.timeout_worker_boot,
            "signals": sorted(signals.HANDLED),
        }

    def _resume(self, state: dict[str, Any]) -> None:
        """The life before has ended in `_reexec`; here it goes on."""
        self._port = state["port"]
        self._workers.resume(state)
        self._up = True
        self._rolling.begin(state["generation"] + 1)

    def _adapt_to_settings(self, state: dict[str, Any]) -> None:
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

    # A worker more or less.

    def _add_worker(self) -> bool:
        why = self._why_no_place()
        if why is not None:
            logger.error("No worker can be added. %s", why)
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
        """The first time in order; the second time at once."""
        if self._end_by is not None:
            self._kill_all()
            return
        self._notifier.stopping()
        grace = self._settings.timeout_graceful_shutdown + KILL_AFTER_GRACE_S
        self._end_by = time.monotonic() + grace
        self._want_no_new_code()
        self._workers.end_all()

    def _want_no_new_code(self) -> None:
        self._reload_check.end()
        if self._reload_on_change is not None:
            self._reload_on_change.end()

    def _kill_all(self) -> None:
        left = sorted(self._workers.pids())
        logger.warning("Killing the workers that have not ended: PID %s.", left)
        self._workers.send_all(signal.SIGKILL)
        self._end_by = time.monotonic() + KILL_AFTER_GRACE_S

    def _leave(self) -> None:
        """Also after an error of our own: no worker, no listener and no segment stay."""
        self._want_no_new_code()
        self._workers.leave()
        if self._reload_on_change is not None:
            self._reload_on_change.close()
        self._selector.close()
        gc.unfreeze()
        if self._bus is not None:
            leave_bus(self._bus, keeps=self._retains_history())

    # What signals ask for.

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
        if self._end_by is None:
            actions |= {
                signal.SIGHUP: self._hang_up,
                signal.SIGTTIN: self._add_worker,
                signal.SIGTTOU: self._remove_worker,
                signal.SIGUSR1: self._reopen_logs,
                signal.SIGUSR2: self._has_no_usr2,
            }
        return actions

    def _hang_up(self) -> None:
        if self._has_terminal and not signals.has_terminal():  # its window was closed
            self._end()
        else:
            self._reload_check.begin()

    def _has_no_usr2(self) -> None:
        logger.info("SIGUSR2 has no meaning for this server. For new code send SIGHUP.")

    def _reopen_logs(self) -> None:
        logs.reopen()
        self._workers.send_all(signal.SIGUSR1)
        logger.info("Reopened the log files.")


def _failure(process: Process) -> str:
    """Why a worker could not start, as it has said."""
    text = process.failure[1:].decode(errors="replace").strip()
    return f"The application cannot start.\n{text}" if text else "The application cannot start."
