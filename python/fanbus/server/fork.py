"""The fork of a process, and the description of its exit."""

from __future__ import annotations

import os
import signal
import threading
import warnings

from fanbus.runtime import stdio
from fanbus.runtime.logs import logger

__all__ = ["describe_exit", "fork", "warn_of_threads"]


def fork() -> int:
    """As `os.fork`, with empty output buffers in the child."""
    # Otherwise each child would write the buffered output once more.
    stdio.flush()
    with warnings.catch_warnings():
        # Python 3.12 warns about threads; `warn_of_threads` has done so, with their names.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def warn_of_threads() -> None:
    """Logs the names of threads that will not exist in a worker."""
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        names = ", ".join(thread.name for thread in others)
        logger.warning(
            "Threads that were started before run() do not exist in the workers, and the locks "
            "they hold stay locked there: %s. Start them in a handler instead.",
            names,
        )


def describe_exit(exit_code: int) -> str:
    """The exit of a process, as the predicate of a sentence."""
    if exit_code >= 0:
        return f"ended with status {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
