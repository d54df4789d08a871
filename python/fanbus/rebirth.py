"""The supervisor starts anew in its own place: same process, same children, new code.

What it holds is handed over by number (listeners, reports), what it knows in a memory file. Signals
stay blocked over the exec, so that none of them meets a process without handlers.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from fanbus import origin

__all__ = ["inherited", "start_anew"]


def inherited() -> dict[str, Any] | None:
    """The state of this process's life before. None if this is its first."""
    if origin.STATE is None:
        return None
    descriptor, origin.STATE = origin.STATE, None
    with os.fdopen(descriptor, "rb") as file:
        state: dict[str, Any] = json.load(file)
    if state["pid"] != os.getpid():  # a child of the application's has it by mistake
        return None
    for number in state["descriptors"]:
        os.set_inheritable(number, False)
    return state


def start_anew(state: dict[str, Any], descriptors: Iterable[int]) -> NoReturn:
    """Replaces this process's program by what its command starts now.

    The caller has blocked its signals. OSError if it does not work: then nothing has changed.
    """
    kept = list(descriptors)
    saved = os.memfd_create("fanbus-supervisor")
    try:
        with os.fdopen(saved, "wb", closefd=False) as file:
            file.write(json.dumps({**state, "pid": os.getpid(), "descriptors": kept}).encode())
        os.lseek(saved, 0, os.SEEK_SET)
        for number in (*kept, saved):
            os.set_inheritable(number, True)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
        if origin.WORKING_DIRECTORY is not None:
            os.chdir(origin.WORKING_DIRECTORY)
        command = origin.command()
        os.execve(command[0], command, origin.environment(state=saved))  # noqa: S606 - our own
    finally:  # only if it did not work
        os.close(saved)
        for number in kept:
            os.set_inheritable(number, False)
