"""The settings that an application passes for its OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fanbus.exceptions import FanbusError

__all__ = ["OpenAPI"]


@dataclass(frozen=True)
class OpenAPI:
    """The texts of the document of an application, and the paths that serve it.

    ```python
    app = Fanbus("shop", openapi=OpenAPI(title="Shop", version="2.1"))
    ```
    """

    title: str | None = None
    """The title; None: the name of the application."""
    version: str = "0.1.0"
    """The version of the interface."""
    description: str | None = None
    """A longer text in CommonMark."""
    path: str = "/openapi.json"
    """The path of the document."""
    docs: str | None = "/docs"
    """The path of the page that shows it; None: there is no page."""

    def __post_init__(self) -> None:
        """Raises FanbusError for an invalid value."""
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
        """The settings for `Fanbus(openapi=)`; None: the document is not served. FanbusError for an
        invalid value."""
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
