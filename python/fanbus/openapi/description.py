"""The description that a decorator adds to a route for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from fanbus.exceptions import RouteError

__all__ = ["Described", "Description"]


class Described(TypedDict, total=False):
    """The options as a user writes them: `@app.get("/", tags=["shop"])`."""

    include_in_schema: bool
    """False: the document does not have the route."""
    tags: Iterable[str]
    """The tags that group it; by default the name of the router around it."""
    responses: Mapping[int, Any]
    """Responses by status that the return annotation does not have: a description, or a type."""
    deprecated: bool
    """True: clients should not use it any more."""


@dataclass(frozen=True)
class Description:
    """The checked options."""

    is_included: bool = True
    tags: tuple[str, ...] = ()
    responses: Mapping[int, Any] = field(default_factory=dict)
    is_deprecated: bool = False

    @classmethod
    def checked(cls, given: Mapping[str, Any], path: str) -> Description:
        """RouteError for an unknown option or an invalid value."""
        unknown = given.keys() - Described.__annotations__.keys()
        if unknown:
            options = ", ".join(Described.__annotations__)
            raise RouteError(
                f'The route "{path}": unknown option {min(unknown)}. The options for the OpenAPI '
                f"document are {options}."
            )
        tags = given.get("tags", ())
        if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
            raise RouteError(f'The route "{path}": tags must be a list of strings, got {tags!r}.')
        responses = given.get("responses", {})
        if not isinstance(responses, Mapping) or not all(
            isinstance(status, int) and 200 <= status <= 599 for status in responses
        ):
            raise RouteError(
                f'The route "{path}": responses must be a dict by status, as in '
                f'{{404: "There is no such order"}}, got {responses!r}.'
            )
        return cls(
            bool(given.get("include_in_schema", True)),
            tuple(tags),
            dict(responses),
            bool(given.get("deprecated", False)),
        )
