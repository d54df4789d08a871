"""The progress bar on a terminal. Other outputs get none."""

from __future__ import annotations

import sys
from types import TracebackType

__all__ = ["Progress"]

_WIDTH = 30
_CLEAR = "\r\x1b[K"


class Progress:
    """The progress of a measurement, on stderr if that is a terminal. The line is removed at the
    end."""

    def __init__(self, *, is_quiet: bool) -> None:
        self._is_shown = sys.stderr.isatty() and not is_quiet
        self.label = ""
        """The text before the phase."""

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

    def show(self, phase: str, done: float, units: int) -> None:
        """Shows the phase, the finished part of it (0 to 1), and the number of units."""
        if not self._is_shown:
            return
        full = round(done * _WIDTH)
        bar = "=" * full + " " * (_WIDTH - full)
        sys.stderr.write(f"{_CLEAR}{self.label}{phase:<11} [{bar}] {done:4.0%}  {units:,}")
        sys.stderr.flush()
