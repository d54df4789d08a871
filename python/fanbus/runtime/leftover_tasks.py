"""The tasks that remain on a worker's loop at its end: they are cancelled and awaited.

The application's own tasks end before its `on_shutdown`, which closes the resources that they use.
Tasks of installed packages end after it: they belong to resources that it closes, such as a
connection pool or a producer with a buffer.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fanbus.runtime import package
from fanbus.runtime.logs import logger

__all__ = ["cancel_all", "cancel_own"]

_INSTALLED = frozenset({"site-packages", "dist-packages"})
_LIBRARY = Path(os.__file__).parent

# The maximum number of task names in one log line.
_MAX_LISTED_NAMES = 10


def cancel_own(loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
    """Cancels the tasks of the application's own code, including handlers that still run."""
    _cancel(loop, [task for task in asyncio.all_tasks(loop) if _is_own(task)], limit_s)


def cancel_all(loop: asyncio.AbstractEventLoop, limit_s: float) -> None:
    """Cancels all remaining tasks, as `asyncio.run` does, and closes the loop."""
    try:
        _cancel(loop, asyncio.all_tasks(loop), limit_s)
        loop.run_until_complete(loop.shutdown_asyncgens())
    except RuntimeError:  # a second signal stopped the loop
        logger.warning("Generators that tasks had not finished were not closed.")
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _cancel(
    loop: asyncio.AbstractEventLoop, tasks: Collection[asyncio.Task[Any]], limit_s: float
) -> None:
    if not tasks:
        return
    for task in tasks:
        task.cancel()
    try:
        _, left = loop.run_until_complete(asyncio.wait(tasks, timeout=limit_s))
    except RuntimeError:  # a second signal stopped the loop
        left = {task for task in tasks if not task.done()}
    except (SystemExit, KeyboardInterrupt) as error:
        logger.error("%s in a task at the end of the worker.", type(error).__name__)
        left = {task for task in tasks if not task.done()}
    if left:
        names = ", ".join(sorted(_name(task) for task in left)[:_MAX_LISTED_NAMES])
        more = f" and {len(left) - _MAX_LISTED_NAMES} more" if len(left) > _MAX_LISTED_NAMES else ""
        logger.warning(
            "Tasks did not end within %g s after they were cancelled: %s%s.",
            limit_s,
            names,
            more,
        )


def _name(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return getattr(coroutine, "__qualname__", None) or task.get_name()


def _is_own(task: asyncio.Task[Any]) -> bool:
    """Whether the code of its coroutine belongs to the application, or is Fanbus's code around
    it."""
    coroutine = task.get_coro()
    code = (
        getattr(coroutine, "cr_code", None)
        or getattr(coroutine, "gi_code", None)
        or getattr(coroutine, "ag_code", None)
    )
    if code is None:  # compiled: only coroutines of Fanbus run the application's code
        return type(coroutine).__module__.partition(".")[0] == "fanbus"
    path = Path(code.co_filename)
    if package.FOLDER in path.parents:
        return True
    if _INSTALLED & set(path.parts) or code.co_filename.startswith("<frozen"):
        return False
    return _LIBRARY not in path.parents
