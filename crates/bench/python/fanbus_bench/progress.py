"""A progress bar on the terminal; nothing where there is none."""

from __future__ import annotations

import sys
from types import TracebackType

__all__ = ["Progress"]

_WIDTH = 30
_CLEAR = "\r\x1b[K"


class Progress:
    """`tell` shows how far it is, on stderr if that is a terminal. The line is gone at the end."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._is_shown = sys.stderr.isatty() and not is_quiet
        self.label = ""
        """Stands before the phase."""

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_shown:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()

    def tell(self, phase: str, done: float, units: int) -> None:
        """The phase, how much of it is done (0 to 1), and what has been counted."""
        if not self._is_shown:
            return
        full = round(done * _WIDTH)
        bar = "=" * full + " " * (_WIDTH - full)
        sys.stderr.write(f"{_CLEAR}{self.label}{phase:<11} [{bar}] {done:4.0%}  {units:,}")
        sys.stderr.flush()
