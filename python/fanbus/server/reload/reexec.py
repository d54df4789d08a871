"""The re-exec that replaces the supervisor's program: same process, same children, new code.

Descriptors (listeners, reports) are handed over by number, state in a memory file. Signals stay
blocked over the exec, so that no signal reaches a process without handlers.

A probe has tried the new code, which may still fail, because it is read once more. Until the new
supervisor is `complete`, any end of it starts the fallback supervisor, which continues with the old
workers (`fanbus.server.reload.fallback`).
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
class _Handover:
    """The state that the supervisor before the re-exec handed over."""

    saved: int
    """Its memory file."""

    state: dict[str, Any]
    has_fallback: bool
    """Whether the fallback supervisor takes over if this process fails."""

    withheld: _core.Withheld | None
    """During the import of the application: processes that it forks get no descriptor."""


_handover: _Handover | None = None


def take_handover() -> None:
    """Called when the package is imported, which is before code of the application runs."""
    global _handover
    if start_command.STATE is None:
        return
    saved, start_command.STATE = start_command.STATE, None
    with os.fdopen(os.dup(saved), "rb") as file:
        file.seek(0)
        state: dict[str, Any] = json.load(file)
    if state["pid"] != os.getpid():  # a child process of the application inherited it
        os.close(saved)
        return
    for number in (*state["descriptors"], saved):
        os.set_inheritable(number, False)
    withheld = _core.Withheld([*state["descriptors"], saved])
    _handover = _Handover(saved, state, has_fallback="why" not in state, withheld=withheld)
    if not _handover.has_fallback:  # this is the fallback supervisor
        return
    sys.excepthook = _on_exception
    atexit.register(_at_exit)
    if state["limit_s"]:
        # The first signal that counts is not handled before the code has been read.
        signal.signal(signal.SIGALRM, _too_late)
        signal.setitimer(signal.ITIMER_REAL, state["limit_s"])


def application_imported() -> None:
    """Notes that the application has been imported. From here on, forked processes are workers."""
    if _handover is not None:
        _handover.withheld = None


def handed_over_state() -> dict[str, Any] | None:
    """The state from before the re-exec. None if there was none."""
    return None if _handover is None else _handover.state


def has_fallback() -> bool:
    """Whether there are workers from before the re-exec that need a fallback supervisor."""
    return (
        _handover is not None and _handover.has_fallback and _handover.state["pid"] == os.getpid()
    )


def complete() -> None:
    """Completes the handover: this process supervises the workers from here on."""
    global _handover
    if _handover is None:
        return
    if _handover.has_fallback:
        _disarm()
    os.close(_handover.saved)
    _handover = None


def start_fallback(why: str) -> None:
    """Replaces this program by the fallback supervisor. Returns if there is no handover."""
    if not has_fallback():
        return
    assert _handover is not None
    saved, state = _handover.saved, _handover.state
    _disarm()
    _handover.has_fallback = False
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
    assert _handover is not None
    stack = "".join(traceback.format_stack(frame)).rstrip()
    start_fallback(f"It did not reach app.run() within {_handover.state['limit_s']:g} s.\n{stack}")
