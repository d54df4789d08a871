"""The JSON codec that an application may use instead of Fanbus's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fanbus.exceptions import FanbusError

__all__ = ["JSON", "checked"]


class JSON(Protocol):
    """A module or an object with these two functions: orjson, simplejson, Python's json, or an
    object of the application."""

    def dumps(self, value: Any, /, *, default: Callable[[Any], Any]) -> str | bytes:
        """The JSON of a value. `default` converts a value without a JSON form, such as a model, or
        raises TypeError."""

    def loads(self, text: str, /) -> Any:
        """The value of a JSON text. ValueError if the text is not JSON."""


def checked(json: JSON | None) -> JSON | None:
    """The codec. FanbusError if it does not have both functions."""
    missing = [name for name in ("dumps", "loads") if not callable(getattr(json, name, None))]
    if json is not None and missing:
        raise FanbusError(
            f"Fanbus(json={json!r}): it has no {' and no '.join(missing)}. Give it a module or an "
            "object that has dumps and loads, as in `import orjson` and Fanbus(json=orjson)."
        )
    return json
