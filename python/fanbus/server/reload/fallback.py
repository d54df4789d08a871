"""The fallback supervisor that continues with the old workers when new code has failed.

A reload reads the code twice: in a probe, and in the re-executed supervisor. If the second read
fails, this supervisor takes over. It watches the workers and ends them in order, but starts none,
because it has no code. SIGHUP tries the new code again. The exit of a worker does so too, and, with
`reload`, a file that changes.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from fanbus.config import Settings
from fanbus.exceptions import StartError
from fanbus.runtime import logs
from fanbus.runtime.logs import logger
from fanbus.server import process_setup
from fanbus.server.reload import reexec, start_command
from fanbus.server.server_bus import ServerBus
from fanbus.server.sockets import remove_socket
from fanbus.server.supervisor import Supervisor

if TYPE_CHECKING:
    from fanbus.server.slot import Slot

__all__ = ["FallbackSupervisor", "main"]

# While new code is being tried, a slot without a worker waits for that.
_TRYING_S = 1.0


class FallbackSupervisor(Supervisor):
    """Supervises the workers of the supervisor that it replaces."""

    _has_code = False

    def __init__(self, settings: Settings, state: dict[str, Any]) -> None:
        super().__init__(
            settings,
            bus=ServerBus("", (), settings, retains_history=state["retains_history"]),
            run_worker=_has_no_code,
            on_ready=lambda _: None,
        )
        self._state_before = state

    def _adapt_to(self, state: dict[str, Any] | None) -> None:
        assert state is not None
        self._rolling.generation = state["generation"]
        self._rolling.stop()
        why = state["why"]
        logger.error(
            "The new code broke after it had been tried; the old workers stay. SIGHUP tries it "
            "again.\n%s",
            why,
        )
        self._notifier.ready(f"{self._status()}; the last reload failed")

    def _open_bus(self) -> None:
        self._bus.join(self._state_before["bus"], joined=len(self._workers.pids()))

    def _start_due_workers(self, now: float) -> None:
        """Tries the new code again if a slot has no worker."""
        self._workers.advance_scale_down(now)
        empty = [slot for slot in self._workers.slots if slot.current is None]
        if self._reloads.check.is_running():
            for slot in empty:
                slot.start_at = max(slot.start_at or 0.0, now + _TRYING_S)
        elif any(slot.start_at is None or slot.start_at <= now for slot in empty):
            for slot in empty:  # each try counts as an exit, so that tries become rarer
                slot.started_at = now
                slot.note_exit(now)
            self._reloads.begin()

    def _next_step(self, _slot: Slot, _pause: float) -> str:
        return "no code is left to replace it with, so the new code is tried again"

    def _add_worker(self) -> bool:
        logger.warning("No worker can be added until the new code starts.")
        return False


def _has_no_code(**_: Any) -> NoReturn:
    raise AssertionError("a fallback supervisor starts no workers")


def main() -> None:
    """Continues in place of the supervisor of the same process."""
    state = reexec.handed_over_state()
    if state is None or "why" not in state:
        sys.stderr.write(
            "fanbus: the fallback supervisor is started by a supervisor. Use `fanbus run`.\n"
        )
        raise SystemExit(2)
    start_command.adopt(state["command"])
    settings = Settings.from_json(state["settings"])
    try:
        logs.configure(settings)
    except StartError:  # the reload may have failed because of this file
        logs.configure(replace(settings, log_config=None))
    with contextlib.ExitStack() as stack:
        stack.callback(remove_socket, settings)
        try:
            stack.enter_context(process_setup.pid_file(process_setup.own_pid_file(settings)))
        except StartError as error:
            logger.warning("%s", error)
        FallbackSupervisor(settings, state).run()


if __name__ == "__main__":
    main()
