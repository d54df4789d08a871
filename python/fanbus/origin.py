"""How this process was started, noted before an application's code could change any of it.

Imported with the package. A supervisor that reloads starts the same command again: once as a probe,
which only imports the application, and then in its own place.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from fanbus import _core

if TYPE_CHECKING:
    from fanbus.app import Fanbus
    from fanbus.config import Settings

__all__ = [
    "ARGUMENTS",
    "ENVIRONMENT",
    "PROBE",
    "STATE",
    "WORKING_DIRECTORY",
    "adopt",
    "command",
    "serve_instead",
]

_PROBE = "FANBUS_INTERNAL_PROBE"
_STATE = "FANBUS_INTERNAL_STATE"
# sd_listen_fds(3): what systemd has handed over, the first life has taken.
_OF_THE_START = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def _take_number(name: str) -> int | None:
    """A descriptor from the environment. Taken out, so that the application's children do not
    believe that it is meant for them."""
    text = os.environ.pop(name, "")
    return int(text) if text.isdecimal() else None


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - a text, for chdir
    except FileNotFoundError:
        return None


PROBE = _take_number(_PROBE)
"""Where to say that the application has been imported, if that is all this process is for."""

STATE = _take_number(_STATE)
"""The state of the supervisor that this process was before, if it was one."""

ARGUMENTS = max(0, len(sys.argv) - 1)
"""How many words at the end of the command are the program's own."""

ENVIRONMENT = dict(os.environ)
WORKING_DIRECTORY = _working_directory()

if PROBE is not None:
    _core.die_with_parent(signal.SIGKILL)

serve_instead: Callable[[Fanbus, Settings], None] | None = None
"""What a spare process does at `app.run()`. None: this process is the server."""


_command = [sys.executable, *sys.orig_argv[1:]]


def command() -> list[str]:
    """The command line that started this process, with the interpreter that is running."""
    return list(_command)


def adopt(command: list[str]) -> None:
    """This process was started by another command than the server, in whose place it is."""
    _command[:] = command


def environment(*, probe: int | None = None, state: int | None = None) -> dict[str, str]:
    """The environment of the start, for a probe or for a supervisor's next life."""
    new = dict(ENVIRONMENT)
    for name in _OF_THE_START:
        new.pop(name, None)
    if probe is not None:
        new[_PROBE] = str(probe)
    if state is not None:
        new[_STATE] = str(state)
    return new
