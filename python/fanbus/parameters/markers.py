"""The markers that `Annotated` may have: the place of a handler's parameter, and its limits."""

from __future__ import annotations

from typing import Any

__all__ = ["LIMITS", "Body", "Cookie", "Header", "Parameter", "Path", "Query"]

LIMITS = ("gt", "ge", "lt", "le", "multiple_of", "min_length", "max_length", "pattern")
"""The names of limits. msgspec, pydantic and annotated-types use the same names."""


class Parameter:
    """The base class of the markers."""

    __slots__ = ("alias", "deprecated", "description", *LIMITS)

    def __init__(
        self,
        *,
        alias: str | None = None,
        description: str | None = None,
        deprecated: bool = False,
        gt: float | None = None,
        ge: float | None = None,
        lt: float | None = None,
        le: float | None = None,
        multiple_of: float | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
        pattern: str | None = None,
    ) -> None:
        """`alias`: the name in the request, if it differs from the name of the parameter.
        `description`, `deprecated`: texts for the OpenAPI document. `gt`, `ge`, `lt`, `le`: greater
        or less than, or equal; `multiple_of`: a number. `min_length`, `max_length`: characters, or
        items of a list. `pattern`: a regular expression that must match a part of the value
        (`^...$` for all of it).
        """
        self.alias = alias
        self.description = description
        self.deprecated = deprecated
        self.gt, self.ge, self.lt, self.le = gt, ge, lt, le
        self.multiple_of = multiple_of
        self.min_length, self.max_length = min_length, max_length
        self.pattern = pattern

    def __repr__(self) -> str:
        given: dict[str, Any] = {name: getattr(self, name) for name in Parameter.__slots__}
        shown = (f"{name}={value!r}" for name, value in given.items() if value not in (None, False))
        return f"{type(self).__name__}({', '.join(shown)})"


class Query(Parameter):
    """A parameter from the query: `page: Annotated[int, Query(ge=1)] = 1`.

    The query is the default place: this marker is for limits and for `alias`.
    """

    __slots__ = ()


class Path(Parameter):
    """A parameter from the path, with limits: `number: Annotated[int, Path(ge=1)]`."""

    __slots__ = ()


class Header(Parameter):
    """A parameter from a header: `user_agent: Annotated[str, Header()]` reads User-Agent.

    Underscores of the parameter's name are hyphens in the name of the header.
    """

    __slots__ = ()


class Cookie(Parameter):
    """A parameter from a cookie: `session: Annotated[str | None, Cookie()] = None`."""

    __slots__ = ()


class Body:
    """A parameter from the JSON body, for types that else come from the query:
    `Annotated[list[int], Body()]`."""

    __slots__ = ("description",)

    def __init__(self, *, description: str | None = None) -> None:
        """`description`: the description in the OpenAPI document."""
        self.description = description

    def __repr__(self) -> str:
        return f"Body(description={self.description!r})" if self.description else "Body()"
