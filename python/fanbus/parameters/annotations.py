"""The annotation that describes a parameter: its type, its marker and its limits.

The limits of msgspec, pydantic and annotated-types have the same names, and work as those of
Fanbus.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from fanbus.exceptions import RouteError
from fanbus.parameters.markers import LIMITS, Body, Parameter

__all__ = ["Annotation", "parsed", "resolved", "shown"]


@dataclass(frozen=True)
class Annotation:
    """The parts of an annotation."""

    kind: Any
    """The type, without None and without the markers of `Annotated`."""
    may_be_none: bool
    marker: Parameter | Body | None
    limits: dict[str, Any]
    description: str | None


def resolved(annotation: Any, function: Callable[..., Any], name: str, where: str) -> Any:
    """The object that an annotation means, also if it is written as a string."""
    plain = inspect.unwrap(function)
    plain = getattr(plain, "func", plain)  # functools.partial
    if not inspect.isroutine(plain):
        plain = type(plain).__call__
    namespace = dict(getattr(plain, "__globals__", {}))
    code, cells = getattr(plain, "__code__", None), getattr(plain, "__closure__", None)
    for variable, cell in zip(code.co_freevars if code else (), cells or (), strict=True):
        try:
            namespace[variable] = cell.cell_contents
        except ValueError:  # it has no value yet
            continue

    def holder() -> None: ...

    holder.__annotations__ = {name: annotation}
    try:
        return get_type_hints(holder, namespace, include_extras=True)[name]
    except Exception as error:  # noqa: BLE001 - the string may be any expression
        raise RouteError(
            f"Handler {where} annotates {name!r} as {shown(annotation)}, which cannot be found "
            f"out: {error}. Import or define it at the top of the module, and not under "
            "`if TYPE_CHECKING`."
        ) from None


def parsed(annotation: Any, context: str) -> Annotation:
    """The parts of an annotation. RouteError, which begins with `context`, for markers that
    contradict each other."""
    markers: list[Any] = []
    may_be_none = False
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            markers += more
        elif hasattr(annotation, "__supertype__"):  # NewType
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # type Page = Annotated[int, ...]
            annotation = annotation.__value__
        elif get_origin(annotation) in (Union, types.UnionType):
            others = [each for each in get_args(annotation) if each is not type(None)]
            if len(others) == len(get_args(annotation)):
                break
            may_be_none = True
            annotation = Union[tuple(others)]  # noqa: UP007 - their number is only known here
        else:
            break
    ours = [each for each in markers if isinstance(each, (Parameter, Body))]
    for each in markers:
        if isinstance(each, type) and issubclass(each, (Parameter, Body)):
            raise RouteError(f"{context}: write {each.__name__}(), with parentheses.")
    if len(ours) > 1:
        raise RouteError(
            f"{context}, with two markers: {ours[0]!r} and {ours[1]!r}. Leave one out."
        )
    limits: dict[str, Any] = {}
    description = None
    for each in markers:
        # pydantic's Field has its limits in a list, as objects of annotated-types.
        for source in (each, *(getattr(each, "metadata", None) or ())):
            for name in LIMITS:
                if (limit := getattr(source, name, None)) is not None:
                    limits[name] = limit
        text = getattr(each, "description", None)
        description = text if isinstance(text, str) else description
    return Annotation(annotation, may_be_none, ours[0] if ours else None, limits, description)


def shown(annotation: Any) -> str:
    """The source text of an annotation."""
    if isinstance(annotation, str):
        return annotation
    text = getattr(annotation, "__forward_arg__", None)
    if isinstance(text, str):
        return text
    plain = isinstance(annotation, type) and not get_args(annotation)
    return annotation.__qualname__ if plain else str(annotation).replace("typing.", "")
