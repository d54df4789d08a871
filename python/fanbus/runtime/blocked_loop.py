"""The watch that reports which line blocks the event loop, for `debug`."""

from __future__ import annotations

import asyncio
import linecache
import sys
import sysconfig
import threading
from pathlib import Path
from types import FrameType

from fanbus.runtime import package
from fanbus.runtime.logs import logger

__all__ = ["Watch"]

_LIMIT_S = 0.5
"""A loop that responds later than this is reported."""
_PAUSE_S = 0.1
_MAX_PLACES = 100

_LIBRARIES = (
    *(str(Path(path)) for path in {*sysconfig.get_paths().values()}),
    str(package.FOLDER),
)
_DEBUGGERS = ("bdb.py", "pdb.py", "pydevd.py")


class Watch:
    """The thread that checks whether the loop responds, and reports the line that blocks it.

    Each line is reported once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """The thread of the loop must call it."""
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._end = threading.Event()
        self._reported: set[tuple[str, int]] = set()
        self._thread = threading.Thread(target=self._watch, name="fanbus-watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Ends the thread."""
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(_PAUSE_S):
            sign = threading.Event()
            try:
                self._loop.call_soon_threadsafe(sign.set)
            except RuntimeError:  # the loop is closed
                return
            if sign.wait(_LIMIT_S):
                continue
            frame = sys._current_frames().get(self._loop_thread)
            line = _users(frame)
            del frame
            if line is not None:
                self._report(*line)
            while not sign.wait(_PAUSE_S):
                if self._end.is_set():
                    return

    def _report(self, file: str, line: int, function: str) -> None:
        if (file, line) in self._reported or len(self._reported) >= _MAX_PLACES:
            return
        self._reported.add((file, line))
        text = linecache.getline(file, line).strip()
        logger.warning(
            "The event loop has been blocked for %g s at %s:%d, in %s: `%s`. All other clients of "
            "the worker wait meanwhile. Make the handler `def`, which runs on a thread, or await "
            "something asynchronous instead.",
            _LIMIT_S,
            file,
            line,
            function,
            text,
        )


def _users(frame: FrameType | None) -> tuple[str, int, str] | None:
    """The innermost line outside of libraries. None: there is none, or a debugger stops it."""
    innermost = None
    while frame is not None:
        file = frame.f_code.co_filename
        if Path(file).name in _DEBUGGERS:
            return None
        if innermost is None and not file.startswith((*_LIBRARIES, "<frozen")):
            innermost = file, frame.f_lineno, frame.f_code.co_name
        frame = frame.f_back
    # The outermost frame is the module that started the server, which does not block the loop.
    return None if innermost is None or innermost[2] == "<module>" else innermost
