"""New code for a server that runs: whether it starts is found out before anything changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fanbus.logs import logger
from fanbus.probe import Probe

if TYPE_CHECKING:
    from fanbus.config import Settings

__all__ = ["Reloading"]


class Reloading:
    """Asks for new code, and says when it may be read."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_begin: Callable[[], None],
        on_good: Callable[[float], None],
        on_bad: Callable[[str], None],
    ) -> None:
        """`on_good` is given when the code was read (time.time); `on_bad` why it does not start."""
        self._settings = settings
        self._on_begin = on_begin
        self._on_good = on_good
        self._on_bad = on_bad
        self._probe: Probe | None = None
        self._is_over = False

    def begin(self) -> None:
        """Asks whether the new code starts; `hear` has the answer."""
        if self._is_over:
            return
        self.cancel()  # it may have read what has changed since
        logger.info("Reloading.")
        self._on_begin()
        try:
            self._probe = Probe(self._settings.timeout_worker_boot)
        except OSError as error:
            self._on_bad(f"A process to try it in could not be started: {error.strerror}.")

    def is_open(self) -> bool:
        """Whether the new code is being tried."""
        return self._probe is not None

    def hear(self) -> None:
        """Is called when a child may have ended, or when `due_at` has come."""
        if self._probe is None:
            return
        wrong = self._probe.result(time.monotonic())
        if wrong is None:
            return
        since = self._probe.started_at_wall
        self._probe = None
        if wrong:
            self._on_bad(wrong)
        else:
            self._on_good(since)

    def due_at(self) -> float | None:
        """When `hear` wants to be called (time.monotonic)."""
        return None if self._probe is None else self._probe.due_at

    def pids(self) -> set[int]:
        """The processes that try it."""
        return set() if self._probe is None else {self._probe.pid}

    def end(self) -> None:
        """The server ends: new code is not wanted any more."""
        self._is_over = True
        self.cancel()

    def cancel(self) -> None:
        """The answer is not wanted any more."""
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
