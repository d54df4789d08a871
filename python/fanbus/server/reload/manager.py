"""The reload manager that brings new code into a running server.

A reload has three steps. A check finds out whether the new code starts (`check`). Then the
supervisor re-executes itself with the new code, and its children stay (`reexec`). Then a rolling
restart replaces the workers slot by slot (`fanbus.server.rolling_restart`).

With `--reload`, a standby process reads a changed file and becomes the worker (`on_change`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fanbus.runtime import signals
from fanbus.runtime.logs import logger
from fanbus.server.reload import reexec, start_command
from fanbus.server.reload.check import ReloadCheck
from fanbus.server.reload.start_command import Invocation

if TYPE_CHECKING:
    import selectors

    from fanbus.config import Settings
    from fanbus.server.reload.on_change import ReloadOnChange
    from fanbus.server.rolling_restart import RollingRestart
    from fanbus.server.server_bus import ServerBus
    from fanbus.server.slot import Slot
    from fanbus.server.systemd import Notifier
    from fanbus.server.workers import Workers

__all__ = ["ReloadManager"]


class ReloadManager:
    """All that a supervisor does for new code."""

    def __init__(
        self,
        settings: Settings,
        workers: Workers,
        rolling: RollingRestart,
        notifier: Notifier,
        *,
        status: Callable[[], str],
        state: Callable[[], dict[str, Any]],
        handle_signals: Callable[[], bool],
    ) -> None:
        """`status` describes the server in the log. `state` is the state for a re-exec.
        `handle_signals` handles pending signals, and returns False if the server ends."""
        self.check = ReloadCheck(
            settings,
            on_begin=notifier.reloading,
            on_success=self._reexec,
            on_failure=self.keep_old_code,
        )
        self.on_change: ReloadOnChange | None = None
        self._settings = settings
        self._workers = workers
        self._rolling = rolling
        self._notifier = notifier
        self._status = status
        self._state = state
        self._handle_signals = handle_signals

    def begin(self) -> None:
        """Begins a reload, as for SIGHUP."""
        self.check.begin()

    def watch_files(
        self,
        selector: selectors.BaseSelector,
        bus: ServerBus,
        state: dict[str, Any],
        *,
        has_code: bool,
    ) -> None:
        """Watches source files. `state` is the one from before a re-exec. `has_code`: this process
        has an application, which a standby process can have instead."""
        # Here, so that a server without `reload` does not load them.
        from fanbus.server.reload import standby
        from fanbus.server.reload.on_change import ReloadOnChange
        from fanbus.server.reload.watch import FileWatcher

        command = Invocation.parse(start_command.command(), start_command.ARGUMENTS)
        since, known = state.get("changed_since"), state.get("directories", ())
        self.on_change = ReloadOnChange(
            FileWatcher(self._settings, since=since, known=known),
            selector,
            self._workers,
            self._rolling,
            command=command if has_code else None,
            bus=bus.identity,
            compatibility_key=standby.compatibility_key(
                bus.application_name, bus.rules, self._settings
            ),
            on_begin=self._notifier.reloading,
            reload=self.check.begin,
        )

    def begin_if_changed(self) -> None:
        """Begins a reload for a file that changed while the code was read."""
        if self.on_change is not None:
            self.on_change.begin_if_changed()

    def ensure_standby(self) -> None:
        """Starts a standby process if there should be one; called in each turn of the loop."""
        if self.on_change is not None:
            self.on_change.ensure_standby()

    def start_worker(self, slot: Slot) -> bool:
        """Starts a worker with newer code than that of this process. False if there is none."""
        if self.on_change is None or not self.on_change.has_newer_code():
            return False
        self.on_change.start_worker(slot)
        return True

    def pids(self) -> set[int]:
        """The IDs of the processes that read new code, or wait for it."""
        standby = self.on_change.pids() if self.on_change is not None else set()
        return self.check.pids() | standby

    def directories(self) -> list[str]:
        """The directories of watched files."""
        return self.on_change.directories() if self.on_change is not None else []

    def report_completion(self) -> None:
        """Logs the end of a rolling restart, if it has just ended."""
        if self._rolling.complete():
            logger.info("Reloaded: %s.", self._status())
            self._notifier.ready(self._status())

    def keep_old_code(self, reason: str) -> None:
        """Logs that the check has failed."""
        logger.error(
            "The new code does not start; the workers go on with the old code.\n%s", reason
        )
        self._notifier.ready(f"{self._status()}; the last reload failed")

    def stop_rolling(self, reason: str) -> None:
        """Stops the rolling restart, because a worker with new code has failed."""
        self._rolling.stop()
        logger.error("A worker with the new code does not start; the old workers stay. %s", reason)
        self._notifier.ready(f"{self._status()}; the last reload failed")

    def end(self) -> None:
        """Ends all processes that read new code: the server ends."""
        self.check.end()
        if self.on_change is not None:
            self.on_change.end()

    def close(self) -> None:
        """Closes all descriptors; also in a worker, which has no use for them."""
        if self.on_change is not None:
            self.on_change.close()

    def _reexec(self, since: float) -> None:
        """The check has passed: the supervisor re-executes itself with the new code."""
        # Pending signals survive the exec. Signals that have been delivered are handled before it.
        signals.block()
        try:
            if not self._handle_signals() or self.check.is_running():
                return
            if failure := reexec.script_failure():
                self.keep_old_code(failure)
                return
            if self.on_change is not None:
                self.on_change.cancel()
            state = {**self._state(), "changed_since": since, "directories": self.directories()}
            reexec.reexec(state, self._workers.descriptors())
        except OSError as error:
            self.keep_old_code(f"{sys.executable} cannot be executed: {error.strerror}.")
        finally:
            signals.unblock()
