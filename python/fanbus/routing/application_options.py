"""The checks of the options of `Fanbus(...)` and `app.cors(...)`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fanbus.exceptions import FanbusError

__all__ = ["bus_name_of", "compression_level_of", "hosts_of", "is_manager_factory", "strings_of"]

# A bus name has 64 bytes at most, and ends with the place of the server: `-65535`, `-uds-01234567`.
_MAX_NAME = 64 - 13
_DEFAULT_LEVEL = 4
_HIGHEST_LEVEL = 9
_FORBIDDEN_IN_NAME = re.compile(r"[^A-Za-z0-9_.-]+")


def strings_of(option: str, given: str | Iterable[str]) -> list[str]:
    """A list of strings, made of a list or of one string. FanbusError for anything else."""
    strings = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(each, str) for each in strings):
        raise FanbusError(f"cors: {option} must be a list of strings, got {given!r}.")
    if option in ("origins", "methods") and not strings:
        raise FanbusError(f"cors: {option} is empty: nothing would be allowed.")
    return strings


def hosts_of(given: Iterable[str]) -> list[str]:
    """A list of host names. FanbusError for anything else."""
    hosts = [] if isinstance(given, str) else list(given)
    if not hosts or not all(isinstance(host, str) for host in hosts):
        raise FanbusError(
            f"Fanbus(hosts={given!r}): hosts must be a list of names, as in "
            'hosts=["example.org", "*.example.org"].'
        )
    return hosts


def is_manager_factory(lifespan: Any) -> bool:
    """Whether `lifespan` seems to be a function that returns a context manager."""
    try:
        inspect.signature(lifespan).bind(None)
    except (TypeError, ValueError):
        return False
    bare = (
        inspect.isasyncgenfunction,
        inspect.isgeneratorfunction,
        inspect.iscoroutinefunction,
    )
    return not any(is_bare(lifespan) for is_bare in bare)


def compression_level_of(compression: bool, level: int | None) -> int | None:
    """The level for the core. None: responses are not compressed."""
    if level is None:
        return _DEFAULT_LEVEL if compression else None
    if type(level) is not int or not 1 <= level <= _HIGHEST_LEVEL:
        raise FanbusError(
            f"compression_level must be a number from 1 to {_HIGHEST_LEVEL}, got {level!r}. "
            "Leave it out for the default."
        )
    if not compression:
        raise FanbusError(
            "compression_level has no effect without compression=True: add that, or leave the "
            "level out."
        )
    return level


def bus_name_of(name: str) -> str:
    """A name that can be part of a bus name. `__main__` is replaced by the name of the script."""
    if name == "__main__":
        main = getattr(sys.modules.get("__main__"), "__file__", None)
        name = Path(main).stem if main else "app"
    return _FORBIDDEN_IN_NAME.sub("-", name).strip("-.")[:_MAX_NAME] or "app"
