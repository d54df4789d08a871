"""A command of Python's, taken apart, so that another interpreter can run it later.

`python app.py`, `python -m fanbus run app` and the script `fanbus` are understood, with options of
the interpreter before them.
"""

from __future__ import annotations

import importlib.machinery
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Invocation"]

# Options of the interpreter whose value is a word of its own.
_WITH_VALUE = ("-X", "-W", "--check-hash-based-pycs")


@dataclass(frozen=True)
class Invocation:
    """What an interpreter was asked to run."""

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
    """Modules there are imported before all others, unless the interpreter was told to be safe."""
    if not getattr(sys.flags, "safe_path", False) and not sys.flags.isolated:
        sys.path[0] = str(directory)
