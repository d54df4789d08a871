"""The reload check that tries new code before anything changes.

A probe is a process that runs the command of the server until the application has been imported. It
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

__all__ = ["ReloadCheck", "report_success"]

_SUCCESS = b"+"
_MAX_TRACEBACK = 32_000


class ReloadCheck:
    """Tries new code in a probe, and reports the result."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_begin: Callable[[], None],
        on_success: Callable[[float], None],
        on_failure: Callable[[str], None],
    ) -> None:
        """`on_success` gets the time before the code was read (time.time), `on_failure` the reason
        why it does not start."""
        self._settings = settings
        self._on_begin = on_begin
        self._on_success = on_success
        self._on_failure = on_failure
        self._probe: _Probe | None = None
        self._is_over = False

    def begin(self) -> None:
        """Starts a probe; `poll` has the result."""
        if self._is_over:
            return
        self.cancel()  # the code may have changed since it was read
        logger.info("Reloading.")
        self._on_begin()
        try:
            self._probe = _Probe(self._settings.timeout_worker_boot)
        except OSError as error:
            self._on_failure(f"A process to try it in could not be started: {error.strerror}.")

    def is_running(self) -> bool:
        """Whether a probe tries the new code."""
        return self._probe is not None

    def poll(self) -> None:
        """Looks for the result; called when a child may have ended, and when `due_at` has come."""
        if self._probe is None:
            return
        failure = self._probe.failure(time.monotonic())
        if failure is None:
            return
        since = self._probe.started_at_wall
        self._probe = None
        if failure:
            self._on_failure(failure)
        else:
            self._on_success(since)

    def due_at(self) -> float | None:
        """The time at which `poll` must be called (time.monotonic)."""
        return None if self._probe is None else self._probe.due_at

    def pids(self) -> set[int]:
        """The IDs of its processes."""
        return set() if self._probe is None else {self._probe.pid}

    def end(self) -> None:
        """Ends the probe; no other one is started."""
        self._is_over = True
        self.cancel()

    def cancel(self) -> None:
        """Ends the probe without a result."""
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None


def report_success() -> None:
    """Ends the process if it is a probe: the application is imported and its options are valid."""
    if start_command.PROBE is not None:
        os.write(start_command.PROBE, _SUCCESS)
        os._exit(0)  # no more code of the application must run


class _Probe:
    """A process that imports the new code."""

    def __init__(self, limit_s: float) -> None:
        """Starts it. OSError if no process can be started. `limit_s` 0: no limit."""
        self.started_at = time.monotonic()
        self.started_at_wall = time.time()
        self.due_at = self.started_at + limit_s if limit_s else None
        self._limit_s = limit_s
        self._is_late = False
        self._stderr = os.memfd_create("fanbus-probe")
        self._result, writing = os.pipe()
        try:
            os.set_blocking(self._result, False)
            self._process = subprocess.Popen(  # noqa: S603 - the command that this process is
                start_command.command(),
                env=start_command.environment(probe=writing),
                cwd=start_command.WORKING_DIRECTORY,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # the server prints the same when it reads the code
                stderr=self._stderr,
                pass_fds=(writing,),
            )
        except OSError:
            self._close()
            raise
        finally:
            os.close(writing)

    @property
    def pid(self) -> int:
        """The ID of the process."""
        return self._process.pid

    def failure(self, now: float) -> str | None:
        """Why the code does not start; empty if it starts. None while the probe runs."""
        if self.due_at is not None and now >= self.due_at and not self._is_late:
            self._is_late = True
            self._process.send_signal(signal.SIGKILL)
        status = self._process.poll()
        if status is None:
            return None
        try:
            result = os.read(self._result, 1)
        except BlockingIOError:  # a child process of the application holds the writing end
            result = b""
        output = os.pread(self._stderr, _MAX_TRACEBACK, 0).decode(errors="replace").strip()
        self._close()
        if result == _SUCCESS:
            return ""
        if self._is_late:
            return f"It did not reach app.run() within {self._limit_s:g} s.\n{output}".strip()
        return output or f"It ended with status {status} before it came to app.run()."

    def cancel(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        os.close(self._stderr)
        os.close(self._result)
