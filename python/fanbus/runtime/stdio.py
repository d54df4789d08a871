"""The standard streams of a server, which may be closed, full, or without a reader.

None of these states may end a server, or prevent its start.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

__all__ = ["flush", "is_terminal", "open_missing", "say"]


def open_missing() -> None:
    """Opens /dev/null for standard streams that were closed when the process started (`2>&-`).

    Otherwise the next socket would get the number 2, and a client would get the output of standard
    error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal. False for a stream that the application has closed."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def say(text: str) -> None:
    """Writes to standard error, and ignores a failure."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(text)
        sys.stderr.flush()


def flush() -> None:
    """Flushes the buffers of both streams, and ignores a failure."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
