"""What an application may write and read JSON with, instead of Fanbus's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fanbus.exceptions import FanbusError

__all__ = ["JSON", "checked"]


class JSON(Protocol):
    """A module or an object with these two: orjson, simplejson, Python's json, or one of yours."""

    def dumps(self, value: Any, /, *, default: Callable[[Any], Any]) -> str | bytes:
        """`default` makes something simpler of what JSON has no word for, as models, or raises
        TypeError."""

    def loads(self, text: str, /) -> Any:
        """ValueError for what is not JSON."""


def checked(json: JSON | None) -> JSON | None:
    """FanbusError if it has not both."""
    missing = [name for name in ("dumps", "loads") if not callable(getattr(json, name, None))]
    if json is not None and missing:
        raise FanbusError(
            f"Fanbus(json={json!r}): it has no {' and no '.join(missing)}. Give it a module or an "
            "object that has dumps and loads, as in `import orjson` and Fanbus(json=orjson)."
        )
    return json
