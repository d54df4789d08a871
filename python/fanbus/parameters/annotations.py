"""What an annotation says: its type, whether it may be None, its marker and its limits.

msgspec, pydantic and annotated-types write limits in the same words, so theirs count like ours.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from fanbus.exceptions import RouteError
from fanbus.parameters.markers import LIMITS, Body, Parameter

__all__ = ["Asked", "resolved", "shown", "taken_apart"]


@dataclass(frozen=True)
class Asked:
    """An annotation, taken apart."""

    kind: Any
    """The type, without None and without what `Annotated` says."""
    may_be_none: bool
    marker: Parameter | Body | None
    limits: dict[str, Any]
    description: str | None


def resolved(annotation: Any, function: Callable[..., Any], name: str, where: str) -> Any:
    """An annotation as the object that it means, also if it is written as a text."""
    plain = inspect.unwrap(function)
    plain = getattr(plain, "func", plain)  # functools.partial
    if not inspect.isroutine(plain):
        plain = type(plain).__call__
    known = dict(getattr(plain, "__globals__", {}))
    code, cells = getattr(plain, "__code__", None), getattr(plain, "__closure__", None)
    for variable, cell in zip(code.co_freevars if code else (), cells or (), strict=True):
        try:
            known[variable] = cell.cell_contents
        except ValueError:  # it has no value yet
            continue

    def holder() -> None: ...

    holder.__annotations__ = {name: annotation}
    try:
        return get_type_hints(holder, known, include_extras=True)[name]
    except Exception as error:  # noqa: BLE001 - the text may be any expression
        raise RouteError(
            f"Handler {where} annotates {name!r} as {shown(annotation)}, which cannot be found "
            f"out: {error}. Import or define it at the top of the module, and not under "
            "`if TYPE_CHECKING`."
        ) from None


def taken_apart(annotation: Any, told: str) -> Asked:
    """RouteError, which begins with `told`, for markers that say nothing together."""
    markers: list[Any] = []
    may_be_none = False
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *said = get_args(annotation)
            markers += said
        elif hasattr(annotation, "__supertype__"):  # NewType
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # type Page = Annotated[int, ...]
            annotation = annotation.__value__
        elif get_origin(annotation) in (Union, types.UnionType):
            others = [each for each in get_args(annotation) if each is not type(None)]
            if len(others) == len(get_args(annotation)):
                break
            may_be_none = True
            annotation = Union[tuple(others)]  # noqa: UP007 - of a number that is found out here
        else:
            break
    ours = [each for each in markers if isinstance(each, (Parameter, Body))]
    for each in markers:
        if isinstance(each, type) and issubclass(each, (Parameter, Body)):
            raise RouteError(f"{told}: write {each.__name__}(), with parentheses.")
    if len(ours) > 1:
        raise RouteError(f"{told}, with two markers: {ours[0]!r} and {ours[1]!r}. Leave one out.")
    limits: dict[str, Any] = {}
    description = None
    for each in markers:
        # pydantic's Field has its limits in a list, in the words of annotated-types.
        for said in (each, *(getattr(each, "metadata", None) or ())):
            for name in LIMITS:
                if (limit := getattr(said, name, None)) is not None:
                    limits[name] = limit
        text = getattr(each, "description", None)
        description = text if isinstance(text, str) else description
    return Asked(annotation, may_be_none, ours[0] if ours else None, limits, description)


def shown(annotation: Any) -> str:
    """An annotation as it is written."""
    if isinstance(annotation, str):
        return annotation
    text = getattr(annotation, "__forward_arg__", None)
    if isinstance(text, str):
        return text
    plain = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__qualname__ if plain else str(annotation).replace("typing.", "")
