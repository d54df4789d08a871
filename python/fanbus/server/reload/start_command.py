"""The command that started this process, recorded before the application could change it.

Imported with the package. A supervisor that reloads starts the same command again: once as a probe,
which only imports the application, and then in its own place.
"""

from __future__ import annotations

import importlib.machinery
import os
import signal
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fanbus import _core

if TYPE_CHECKING:
    from fanbus.config import Settings
    from fanbus.runtime.application import Application

__all__ = [
    "ARGUMENTS",
    "ENVIRONMENT",
    "PROBE",
    "STATE",
    "WORKING_DIRECTORY",
    "Invocation",
    "adopt",
    "command",
    "serve_instead",
]

_PROBE = "FANBUS_INTERNAL_PROBE"
_STATE = "FANBUS_INTERNAL_STATE"
# sd_listen_fds(3): the first instance has taken the descriptors of systemd.
_OF_THE_START = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def _take_number(name: str) -> int | None:
    """A descriptor from the environment. It is removed there, so that child processes of the
    application do not use it."""
    text = os.environ.pop(name, "")
    return int(text) if text.isdecimal() else None


def _working_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 - a str, for chdir
    except FileNotFoundError:
        return None


PROBE = _take_number(_PROBE)
"""The descriptor to report a successful import on, if this process is a probe."""

STATE = _take_number(_STATE)
"""The state of the supervisor that this process was before, if it was one."""

ARGUMENTS = max(0, len(sys.argv) - 1)
"""The number of words at the end of the command that are arguments of the program."""

ENVIRONMENT = dict(os.environ)
WORKING_DIRECTORY = _working_directory()

if PROBE is not None:
    _core.die_with_parent(signal.SIGKILL)

serve_instead: Callable[[Application, Settings], None] | None = None
"""The function that a standby process calls at `app.run()`. None: this process is the server."""


_command = [sys.executable, *sys.orig_argv[1:]]


def command() -> list[str]:
    """The command line that started this process, with the interpreter that is running."""
    return list(_command)


def adopt(command: list[str]) -> None:
    """Sets the command of the server whose place this process took; its own is another one."""
    _command[:] = command


def environment(*, probe: int | None = None, state: int | None = None) -> dict[str, str]:
    """The environment of the start, for a probe or for the next instance of the supervisor."""
    new = dict(ENVIRONMENT)
    for name in _OF_THE_START:
        new.pop(name, None)
    if probe is not None:
        new[_PROBE] = str(probe)
    if state is not None:
        new[_STATE] = str(state)
    return new


# Options of the interpreter whose value is a word of its own.
_WITH_VALUE = ("-X", "-W", "--check-hash-based-pycs")


@dataclass(frozen=True)
class Invocation:
    """A command of Python's, taken apart, so that another interpreter can run it later.

    `python app.py`, `python -m fanbus run app` and the script `fanbus` are understood, with options
    of the interpreter before them.
    """

    interpreter: tuple[str, ...]
    """The program, and its own options."""

    target: str
    """The file of a script, or the name of a module."""

    is_module: bool
    arguments: tuple[str, ...]

    @classmethod
    def parse(cls, words: Sequence[str], arguments: int) -> Invocation | None:
        """The whole command, of which so many words at the end are for the program that is run.

        None for what could be run otherwise than it was: code on the command line or on stdin, and
        a program that runs another one, as debuggers and coverage do.
        """
        end = len(words) - arguments
        head, tail = list(words[:end]), tuple(words[end:])
        if len(head) < 2:
            return None
        target = head.pop()
        is_module = head[-1] == "-m"
        if is_module:
            head.pop()
        elif not _is_script(target):
            return None
        options = iter(head[1:])
        for option in options:
            if not option.startswith("-") or option in ("-", "-c", "-m"):
                return None
            if option in _WITH_VALUE:
                next(options, None)
        return cls(tuple(head), target, is_module, tail)

    def run(self) -> None:
        """Runs it as `__main__`, in this process. Raises what it raises."""
        sys.argv = [self.target, *self.arguments]
        sys.orig_argv = [*self.interpreter, *(("-m",) * self.is_module), *sys.argv]
        if self.is_module:
            import runpy  # here, so that a supervisor goes without it

            _be_found_first(Path.cwd())
            runpy.run_module(self.target, run_name="__main__", alter_sys=True)
            return
        path = Path(self.target).absolute()
        _be_found_first(path.resolve().parent)
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        main = types.ModuleType("__main__")
        main.__file__ = str(path)
        main.__loader__ = importlib.machinery.SourceFileLoader("__main__", str(path))
        sys.modules["__main__"] = main
        exec(code, vars(main))  # noqa: S102 - the application itself


def _is_script(name: str) -> bool:
    return Path(name).suffix in ("", ".py") and Path(name).is_file()


def _be_found_first(directory: Path) -> None:
    """Imports modules of this directory before all others, unless Python
    runs with `-P` or `-I`."""
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path[0] = str(directory)
