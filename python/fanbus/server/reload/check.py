"""The check of new code: whether the server starts with it is found out before anything changes.

A probe is a process that runs the server's own command until the application has been imported. It
opens no port and no bus, and cannot harm the server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fanbus.runtime.logs import logger
from fanbus.server.reload import start_command

if TYPE_CHECKING:
    from fanbus.config import Settings

__all__ = ["ReloadCheck", "answer"]

_WELL = b"+"
_MOST_OF_A_TRACEBACK = 32_000


class ReloadCheck:
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
        self._probe: _Probe | None = None
        self._is_over = False

    def begin(self) -> None:
        """Asks whether the new code starts; `hear` has the answer."""
        if self._is_over:
            return
        self.cancel()  # it may have read what has changed since
        logger.info("Reloading.")
        self._on_begin()
        try:
            self._probe = _Probe(self._settings.timeout_worker_boot)
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


def answer() -> None:
    """In the probe, when the application has been imported and its options are well. Ends it."""
    if start_command.PROBE is not None:
        os.write(start_command.PROBE, _WELL)
        os._exit(0)  # nothing of the application's is to run any further


class _Probe:
    """A running probe."""

    def __init__(self, limit_s: float) -> None:
        """Starts it. OSError if there can be no further process. `limit_s` 0 is no limit."""
        self.started_at = time.monotonic()
        self.started_at_wall = time.time()
        self.due_at = self.started_at + limit_s if limit_s else None
        self._limit_s = limit_s
        self._is_late = False
        self._said = os.memfd_create("fanbus-probe")
        self._verdict, writing = os.pipe()
        try:
            os.set_blocking(self._verdict, False)
            self._process = subprocess.Popen(  # noqa: S603 - the command that this process is
                start_command.command(),
                env=start_command.environment(probe=writing),
                cwd=start_command.WORKING_DIRECTORY,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # what it prints, the server has printed already
                stderr=self._said,
                pass_fds=(writing,),
            )
        except OSError:
            self._close()
            raise
        finally:
            os.close(writing)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def result(self, now: float) -> str | None:
        """Empty if the code is well; else what is wrong with it. None while that is open."""
        if self.due_at is not None and now >= self.due_at and not self._is_late:
            self._is_late = True
            self._process.send_signal(signal.SIGKILL)
        status = self._process.poll()
        if status is None:
            return None
        try:
            verdict = os.read(self._verdict, 1)
        except BlockingIOError:  # a child of the application's holds the writing end
            verdict = b""
        said = os.pread(self._said, _MOST_OF_A_TRACEBACK, 0).decode(errors="replace").strip()
        self._close()
        if verdict == _WELL:
            return ""
        if self._is_late:
            return f"It did not reach app.run() within {self._limit_s:g} s.\n{said}".strip()
        return said or f"It ended with status {status} before it came to app.run()."

    def cancel(self) -> None:
        """Ends it, because its answer is not wanted any more."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        os.close(self._said)
        os.close(self._verdict)
