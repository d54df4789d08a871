"""The supervisor starts anew in its own place: same process, same children, new code.

What it holds is handed over by number (listeners, reports), what it knows in a memory file. Signals
stay blocked over the exec, so that none of them meets a process without handlers.

The new code was tried by a probe, and may break all the same, because it is read once more. Until
the new life stands (`complete`), whatever ends it starts the caretaker instead, which goes on with
the old workers (`fanbus.server.reload.fallback`).
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from fanbus import _core
from fanbus.runtime import signals, stdio
from fanbus.server.reload import start_command

__all__ = [
    "application_imported",
    "complete",
    "handed_over_state",
    "has_fallback",
    "reexec",
    "script_failure",
    "start_fallback",
    "take_handover",
]


@dataclass
class _Before:
    """The life before this one."""

    saved: int
    """Its memory file."""

    state: dict[str, Any]
    has_fallback: bool
    """Whether the caretaker takes over if this life ends."""

    withheld: _core.Withheld | None
    """While the application is imported: what it forks gets none of the descriptors."""


_before: _Before | None = None


def take_handover() -> None:
    """Is called when the package is imported, which is before the application's code runs."""
    global _before
    if start_command.STATE is None:
        return
    saved, start_command.STATE = start_command.STATE, None
    with os.fdopen(os.dup(saved), "rb") as file:
        file.seek(0)
        state: dict[str, Any] = json.load(file)
    if state["pid"] != os.getpid():  # a child of the application's has it by mistake
        os.close(saved)
        return
    for number in (*state["descriptors"], saved):
        os.set_inheritable(number, False)
    withheld = _core.Withheld([*state["descriptors"], saved])
    _before = _Before(saved, state, has_fallback="why" not in state, withheld=withheld)
    if not _before.has_fallback:  # this is the caretaker
        return
    sys.excepthook = _on_exception
    atexit.register(_at_exit)
    if state["limit_s"]:
        # The first signal that counts is not handled before the code has been read.
        signal.signal(signal.SIGALRM, _too_late)
        signal.setitimer(signal.ITIMER_REAL, state["limit_s"])


def application_imported() -> None:
    """The application has been imported. What is forked from here on is a worker."""
    if _before is not None:
        _before.withheld = None


def handed_over_state() -> dict[str, Any] | None:
    """The state of this process's life before. None if this is its first."""
    return None if _before is None else _before.state


def has_fallback() -> bool:
    """Whether there are workers of the life before, and nobody else who would look after them."""
    return _before is not None and _before.has_fallback and _before.state["pid"] == os.getpid()


def complete() -> None:
    """The new life stands, and looks after the workers itself from here on."""
    global _before
    if _before is None:
        return
    if _before.has_fallback:
        _disarm()
    os.close(_before.saved)
    _before = None


def start_fallback(why: str) -> None:
    """Starts the caretaker in place of this life. Returns if there is nothing to take care of."""
    if not has_fallback():
        return
    assert _before is not None
    saved, state = _before.saved, _before.state
    _disarm()
    _before.has_fallback = False
    signal.pthread_sigmask(signal.SIG_BLOCK, state["signals"])
    os.ftruncate(saved, 0)
    os.lseek(saved, 0, os.SEEK_SET)
    command = [sys.executable, "-m", "fanbus.server.reload.fallback"]
    _execute(command, saved, {**state, "why": why}, state["descriptors"])


def reexec(state: dict[str, Any], descriptors: Iterable[int]) -> NoReturn:
    """Replaces this process's program by what its command starts now.

    The caller has blocked its signals. OSError if it does not work: then nothing has changed.
    """
    kept = list(descriptors)
    saved = os.memfd_create("fanbus-supervisor")
    try:
        state = {
            **state,
            "pid": os.getpid(),
            "command": start_command.command(),
            "descriptors": kept,
        }
        _execute(start_command.command(), saved, state, kept)
    finally:  # only if it did not work
        os.close(saved)
        for number in kept:
            os.set_inheritable(number, False)


def script_failure() -> str:
    """Why the script that this process runs cannot be read any more; empty if it can.

    An error of syntax there is the one that Python finds before `take_handover` has been called.
    """
    main = sys.modules.get("__main__")
    name = getattr(main, "__file__", None)
    if name is None or getattr(main, "__spec__", None) is not None:  # python -c, python -m
        return ""
    path = Path(start_command.WORKING_DIRECTORY or ".", name)
    if path.suffix != ".py":
        return ""
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError) as error:
        return "".join(traceback.format_exception_only(type(error), error)).strip()
    return ""


def _execute(
    command: list[str], saved: int, state: dict[str, Any], descriptors: Iterable[int]
) -> NoReturn:
    with os.fdopen(saved, "wb", closefd=False) as file:
        file.write(json.dumps(state).encode())
    os.lseek(saved, 0, os.SEEK_SET)
    for number in (*descriptors, saved):
        os.set_inheritable(number, True)
    stdio.flush()
    if start_command.WORKING_DIRECTORY is not None:
        os.chdir(start_command.WORKING_DIRECTORY)
    os.execve(command[0], command, start_command.environment(state=saved))  # noqa: S606 - our own


def _disarm() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    if signal.getsignal(signal.SIGALRM) is _too_late:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signals.quieten()
    if sys.excepthook is _on_exception:
        sys.excepthook = sys.__excepthook__
    atexit.unregister(_at_exit)


def _on_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    start_fallback("".join(traceback.format_exception(kind, error, trace)).strip())
    sys.__excepthook__(kind, error, trace)


def _at_exit() -> None:
    start_fallback("It ended before the server was there. Its output is above.")


def _too_late(_number: int, frame: FrameType | None) -> None:
    assert _before is not None
    stack = "".join(traceback.format_stack(frame)).rstrip()
    start_fallback(f"It did not reach app.run() within {_before.state['limit_s']:g} s.\n{stack}")
