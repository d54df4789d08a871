"""The exit of a worker's process, which does the steps of Python's exit in limited time.

A worker cannot return to the code of its supervisor, from which it was forked. `os._exit` alone
calls no exit function, flushes no file, and leaves the processes of a pool running.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import logging
import os
import sys
import threading
import traceback
from typing import NoReturn

from fanbus.runtime import stdio
from fanbus.runtime.logs import logger

__all__ = ["end_process", "flush_files"]

# The time for processes of a pool to end after SIGTERM; then they are killed.
_TERMINATE_S = 0.5


def end_process(status: int, limit_s: float) -> NoReturn:
    """Ends this process with the status: waits for threads, calls exit functions, flushes files.

    Pools of `concurrent.futures` and processes of `multiprocessing` end by their own exit
    functions. After the time, the process exits anyway, and the log has the stack of the main
    thread.
    """
    main = threading.get_ident()
    done = threading.Event()

    def watch() -> None:
        if not done.wait(limit_s):
            logger.warning(
                "The exit functions of this process did not end within %.2g s and were stopped.%s "
                "The main thread was here:\n%s",
                limit_s,
                _threads(),
                _stack(main),
            )
            _end_children()
            _leave(status)

    # A daemon thread: the exit waits for all other threads.
    watcher = threading.Thread(target=watch, name="fanbus-exit", daemon=True)
    with contextlib.suppress(RuntimeError):  # no thread can be started: the supervisor has a limit
        watcher.start()
    try:
        threading._shutdown()  # type: ignore[attr-defined] # as Py_FinalizeEx does, in this order
        atexit._run_exitfuncs()
    except BaseException:  # noqa: BLE001 - an exit function that raises has ended, too
        logger.error("An exit function failed.", exc_info=True)
    done.set()
    _leave(status)


def _leave(status: int) -> NoReturn:
    try:
        gc.unfreeze()  # frozen objects include files that were open before the fork
        flush_files()
        logging.shutdown()
        stdio.flush()
    finally:
        os._exit(status)


def flush_files() -> None:
    """Writes the buffers of all open files."""
    for one in gc.get_objects():
        # `type`, since `isinstance` may run code of a proxy object.
        if issubclass(type(one), (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            # Closed, detached, or on a full disk.
            with contextlib.suppress(OSError, ValueError):
                one.flush()


def _end_children() -> None:
    """Ends the processes of pools. They would wait for this process forever, since they hold each
    other's pipes open."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is None:
        return
    children = processes.active_children()
    for one in children:
        with contextlib.suppress(OSError, AttributeError):
            one.terminate()
    for one in children:
        with contextlib.suppress(OSError, AssertionError):
            one.join(_TERMINATE_S)
            if one.exitcode is None:
                one.kill()


def _threads() -> str:
    """A sentence with the names of the threads that the exit waits for."""
    names = [one.name for one in threading.enumerate() if not one.daemon and one.ident != _main()]
    return f" Threads that run: {', '.join(names)}." if names else ""


def _main() -> int | None:
    return threading.main_thread().ident


def _stack(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)).rstrip() if frame is not None else "(unknown)"
