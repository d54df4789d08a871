"""What an application says of its OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fanbus.exceptions import FanbusError

__all__ = ["OpenAPI"]


@dataclass(frozen=True)
class OpenAPI:
    """The document of an application, and where it is served.

    ```python
    app = Fanbus("shop", openapi=OpenAPI(title="Shop", version="2.1"))
    ```
    """

    title: str | None = None
    """What it is called; None: the application's name."""
    version: str = "0.1.0"
    """That of the interface, as clients should know it."""
    description: str | None = None
    """More about it, in CommonMark."""
    path: str = "/openapi.json"
    """Where the document is."""
    docs: str | None = "/docs"
    """Where the page for people is; None: nowhere."""

    def __post_init__(self) -> None:
        """Raises FanbusError for what cannot be."""
        for name in ("title", "version", "description"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "version"):
                raise FanbusError(f"OpenAPI: {name} must be a string, got {value!r}.")
        for name in ("path", "docs"):
            value = getattr(self, name)
            if value is None and name == "docs":
                continue
            if not isinstance(value, str) or not value.startswith("/") or set("{}<>") & set(value):
                raise FanbusError(
                    f"OpenAPI: {name} must be a path with a leading slash and without "
                    f'parameters, as in "/openapi.json", got {value!r}.'
                )

    @classmethod
    def checked(cls, given: Any) -> OpenAPI | None:
        """What `Fanbus(openapi=)` means. FanbusError if it means nothing."""
        if given is None or given is False:
            return None
        if given is True:
            return cls()
        if not isinstance(given, cls):
            raise FanbusError(
                f"openapi must be True, False or an OpenAPI such as OpenAPI(title='Shop'), "
                f"got {given!r}."
            )
        return given
