"""Whether new code starts: the server's own command, run until the application has been imported.

The probe is a process of its own: it opens no port and no bus, and cannot harm the server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time

from fanbus import origin

__all__ = ["Probe", "answer"]

_WELL = b"+"
_MOST_OF_A_TRACEBACK = 32_000


def answer() -> None:
    """In the probe, when the application has been imported and its options are well. Ends it."""
    if origin.PROBE is not None:
        os.write(origin.PROBE, _WELL)
        os._exit(0)  # nothing of the application's is to run any further


class Probe:
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
                origin.command(),
                env=origin.environment(probe=writing),
                cwd=origin.WORKING_DIRECTORY,
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
