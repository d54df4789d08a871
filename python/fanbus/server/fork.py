"""How processes are forked from this one, and how they ended."""

from __future__ import annotations

import os
import signal
import threading
import warnings

from fanbus.runtime import stdio
from fanbus.runtime.logs import logger

__all__ = ["fork", "manner", "warn_of_threads"]


def fork() -> int:
    """As `os.fork`; what this process has written, only this one has."""
    # Or each child would write what stands in the buffers once more.
    stdio.flush()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads; `warn_of_threads` has done so, by name.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def warn_of_threads() -> None:
    """Names the threads that no worker will have."""
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        names = ", ".join(thread.name for thread in others)
        logger.warning(
            "Threads that were started before run() do not exist in the workers, and the locks "
            "they hold stay locked there: %s. Start them in a handler instead.",
            names,
        )


def manner(exit_code: int) -> str:
    """How a process ended, for a sentence that begins with it."""
    if exit_code >= 0:
        return f"ended with status {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"
