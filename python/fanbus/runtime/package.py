"""The folder of Fanbus itself, which tells its own code from the application's."""

from __future__ import annotations

from pathlib import Path

from fanbus import _core

__all__ = ["FOLDER"]

FOLDER = Path(_core.__file__).parent
