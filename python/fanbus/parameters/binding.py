"""The binding that connects a handler's annotated parameters with the parts of a request.

It is made once, when the handler is decorated. Each parameter becomes a `BoundParameter`: a
function that reads its value from a request or from the handshake of a WebSocket, and its
description for the OpenAPI document. One ValidationError lists all wrong values.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

from fanbus._core import json_body
from fanbus.exceptions import Problem, RouteError, ValidationError
from fanbus.parameters.annotations import Annotation, parsed, shown
from fanbus.parameters.markers import Body, Cookie, Header, Parameter, Path, Query
from fanbus.parameters.models import decoder, has_model
from fanbus.parameters.scalars import limited, scalar
from fanbus.requests import Request
from fanbus.websocket import WebSocket

__all__ = [
    "CONVERTED",
    "BoundParameter",
    "Reader",
    "bind_parameter",
    "path_value",
    "reading",
    "the_subject",
]

Subject = Request | WebSocket
"""An object with a query, headers and cookies."""

Reader = Callable[[Any, Sequence[Any]], Any]
"""A function that reads a value from a subject and the values of its path. It raises
ValidationError for a wrong value."""

Place = Literal["path", "query", "header", "cookie", "body"]

CONVERTED: dict[str, type] = {"str": str, "path": str, "int": int, "float": float, "uuid": UUID}
"""The types of the values of path converters."""

_PLACES: dict[type, Place] = {Query: "query", Path: "path", Header: "header", Cookie: "cookie"}
_SCALARS_ALONE = (
    "str, int, float, bool, uuid.UUID, datetime, date, an Enum or a Literal of strings or numbers, "
    "one of these `| None` or a list of them"
)
_SCALARS = f"{_SCALARS_ALONE}, or a model for the JSON body"


@dataclass(frozen=True)
class BoundParameter:
    """A parameter that is read from the request, or from the handshake."""

    place: Place
    name: str
    """Its name in the request."""
    annotation: Any
    """Its type, without the markers of `Annotated`."""
    schema: dict[str, Any]
    """JSON Schema of its values. The schema of a body is made for the document, when that is
    made."""
    read: Reader
    default: Any
    """The value if the request does not have it; `inspect.Parameter.empty`: it is required."""
    description: str | None = None
    deprecated: bool = False

    @property
    def is_required(self) -> bool:
        """Whether a request without it is refused."""
        return self.default is inspect.Parameter.empty


def reading(
    call: Callable[..., Any], reads: Sequence[Reader], *, late: bool = False
) -> Callable[..., Any]:
    """A function of the subject and its path values, which reads the arguments of `call` from
    them.

    `late`: `call` returns a coroutine, and its arguments are read when that runs. Many handlers are
    started at a time. Models that were made at once would wait in memory for all other handlers:
    models of 64 bodies of 50 KB took 50 MB, and twice the time.
    """
    reads = tuple(reads)

    def read_all(subject: Subject, values: Sequence[Any]) -> list[Any]:
        arguments = []
        problems: list[Problem] | None = None
        for read in reads:
            try:
                arguments.append(read(subject, values))
            except ValidationError as error:
                problems = [*(problems or ()), *error.problems]
        if problems is not None:
            raise ValidationError(problems)
        return arguments

    @functools.wraps(call)
    def read_and_call(subject: Subject, *values: Any) -> Any:
        return call(*read_all(subject, values))

    @functools.wraps(call)
    async def read_late_and_call(subject: Subject, *values: Any) -> Any:
        return await call(*read_all(subject, values))

    return read_late_and_call if late else read_and_call


def bind_parameter(
    parameter: inspect.Parameter,
    annotation: Any,
    *,
    converter: str | None,
    at: int,
    where: str,
    has_body: bool = True,
) -> BoundParameter:
    """Binds a parameter. RouteError, with the place of the handler, if its annotation cannot work.

    `converter` is the converter of the path parameter of this name, and `at` its index; None if the
    path has no such parameter. `has_body`: the handler serves requests, not handshakes.
    """
    context = f"Handler {where} annotates {parameter.name!r} as {shown(annotation)}"
    parts = parsed(annotation, context)
    _check_marker(parameter, parts, converter, where)
    if isinstance(parameter.default, (Parameter, Body)):
        marker = parameter.default
        raise RouteError(
            f"Handler {where} has the marker {marker!r} as the default of {parameter.name!r}. "
            f"Write it into the annotation: {parameter.name}: Annotated[..., {marker!r}]."
        )
    if converter is not None:
        return _from_path(parameter.name, parts, converter, at, context)
    kind, many = _items(parts.kind)
    item = parsed(kind, context)
    value = None if isinstance(parts.marker, Body) else scalar(item.kind)
    if value is None:
        if isinstance(parts.marker, Parameter) or not (
            isinstance(parts.marker, Body) or _is_body(parts.kind)
        ):
            usable = _SCALARS if has_body else _SCALARS_ALONE
            raise RouteError(f"{context}, which no text of a request can be. Use {usable}.")
        if not has_body:
            raise RouteError(
                f"{context}, which only a JSON body can be, but the handshake of a WebSocket has "
                f"none. Use {_SCALARS_ALONE}, or read it from the first message."
            )
        return _from_body(parameter, annotation, parts, context)
    read, schema = _limited(value.read, value.schema, item, context)
    if many:
        read, schema = _each(read), {"type": "array", "items": schema}
    read, schema = _limited(read, schema, parts, context)
    if many and isinstance(parts.marker, Cookie):
        raise RouteError(f"{context}, but a cookie has one value. Take it as str.")
    place = _PLACES[type(parts.marker)] if isinstance(parts.marker, Parameter) else "query"
    name = _name(parameter, parts)
    default = _default(parameter, parts)
    absent = _absent([place, name], default)
    return BoundParameter(
        place,
        name,
        parts.kind,
        schema,
        _reader(place, name, read, many=many, absent=absent),
        default,
        parts.description,
        isinstance(parts.marker, Parameter) and parts.marker.deprecated,
    )


def _check_marker(
    parameter: inspect.Parameter, parts: Annotation, converter: str | None, where: str
) -> None:
    marker = parts.marker
    if converter is None and isinstance(marker, Path):
        raise RouteError(
            f"Handler {where} takes {parameter.name!r} from the path, which has no such parameter. "
            f"Put {{{parameter.name}}} into it."
        )
    if converter is not None and marker is not None and not isinstance(marker, Path):
        raise RouteError(
            f"Handler {where} marks {parameter.name!r} as {type(marker).__name__}, but the path "
            "has a parameter of this name. Rename one, or leave the marker out."
        )


def _from_path(
    name: str, parts: Annotation, converter: str, at: int, context: str
) -> BoundParameter:
    kind = CONVERTED[converter]
    value = scalar(kind if kind is not str else parts.kind)
    if value is None or parts.may_be_none or (kind is not str and parts.kind is not kind):
        instead = _SCALARS.partition(", one of")[0] if kind is str else kind.__name__
        raise RouteError(f"{context}, but the path has it as {converter!r}. Use {instead}.")
    convert: Callable[[Any], Any] = value.read if kind is str else _unchanged
    read, schema = _limited(convert, value.schema, parts, context)

    def from_path(_subject: Subject, values: Sequence[Any]) -> Any:
        try:
            return read(values[at])
        except ValueError as error:
            raise _wrong(["path", name], error) from None

    deprecated = isinstance(parts.marker, Parameter) and parts.marker.deprecated
    return BoundParameter(
        "path",
        name,
        parts.kind,
        schema,
        from_path,
        inspect.Parameter.empty,
        parts.description,
        deprecated,
    )


def _from_body(
    parameter: inspect.Parameter, annotation: Any, parts: Annotation, context: str
) -> BoundParameter:
    # The libraries ignore the marker, and use the rest of `Annotated`.
    try:
        decode = decoder(annotation).decode
    except TypeError as error:
        raise RouteError(f"{context}: {error}") from None
    default = _default(parameter, parts)
    absent = _absent(["body"], default)

    def from_body(request: Request, _values: Sequence[Any]) -> Any:
        body = json_body(request)
        return decode(body) if body else absent()

    return BoundParameter("body", "body", annotation, {}, from_body, default, parts.description)


def _is_body(kind: Any) -> bool:
    """Whether a value of this type can only be the JSON body."""
    return kind is dict or get_origin(kind) is dict or has_model(kind)


def _items(kind: Any) -> tuple[Any, bool]:
    """The type of one item, and whether there may be several items."""
    if kind is list:
        return str, True
    return (get_args(kind)[0], True) if get_origin(kind) is list else (kind, False)


def _each(read: Callable[[str], Any]) -> Callable[[list[str]], list[Any]]:
    def read_each(texts: list[str]) -> list[Any]:
        return [read(text) for text in texts]

    return read_each


def _reader(
    place: Place,
    name: str,
    read: Callable[[Any], Any],
    *,
    many: bool,
    absent: Callable[[], Any],
) -> Reader:
    """The reader of one place. Each place has a function of its own, since it runs for every
    request."""
    loc: list[str | int] = [place, name]
    if place == "query" and many:

        def from_queries(subject: Subject, _values: Sequence[Any]) -> Any:
            texts = subject.query.get_all(name)
            try:
                return read(texts) if texts else absent()
            except ValueError as error:
                raise _wrong(loc, error) from None

        return from_queries
    if place == "query":

        def from_query(subject: Subject, _values: Sequence[Any]) -> Any:
            text = subject.query.get(name)
            try:
                return absent() if text is None else read(text)
            except ValueError as error:
                raise _wrong(loc, error) from None

        return from_query

    def from_elsewhere(subject: Subject, _values: Sequence[Any]) -> Any:
        values = subject.cookies if place == "cookie" else subject.headers
        text = values.get(name)
        try:
            return absent() if text is None else read(text)
        except ValueError as error:
            raise _wrong(loc, error) from None

    def from_headers(subject: Subject, _values: Sequence[Any]) -> Any:
        lines = subject.headers.get_all(name)
        # A list, in one line or several; empty items are ignored (RFC 9110, 5.6.1).
        texts = [text.strip() for text in ",".join(lines).split(",") if text.strip()]
        try:
            return read(texts) if texts else absent()
        except ValueError as error:
            raise _wrong(loc, error) from None

    return from_headers if many else from_elsewhere


def _default(parameter: inspect.Parameter, parts: Annotation) -> Any:
    """The default. A parameter with `| None` has the default None, without writing it."""
    is_absent = parameter.default is parameter.empty and parts.may_be_none
    return None if is_absent else parameter.default


def _absent(loc: list[str | int], default: Any) -> Callable[[], Any]:
    """The function that is called if the request does not have the parameter."""
    if default is inspect.Parameter.empty:

        def missing() -> Any:
            raise ValidationError([{"loc": loc, "msg": "is missing", "type": "missing"}])

        return missing
    if isinstance(default, (list, dict, set)):
        return default.copy  # a handler may change it
    return lambda: default


def _wrong(loc: list[str | int], error: ValueError) -> ValidationError:
    return ValidationError([{"loc": loc, "msg": str(error), "type": "invalid"}])


def _limited(
    read: Callable[[Any], Any], schema: Any, parts: Annotation, context: str
) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    try:
        return limited(read, schema, parts.limits)
    except ValueError as error:
        raise RouteError(f"{context}: {error}.") from None


def _name(parameter: inspect.Parameter, parts: Annotation) -> str:
    marker = parts.marker
    if isinstance(marker, Parameter) and marker.alias is not None:
        return marker.alias
    return parameter.name.replace("_", "-") if isinstance(marker, Header) else parameter.name


def _unchanged(value: Any) -> Any:
    return value


def the_subject(subject: Subject, _values: Sequence[Any]) -> Subject:
    """The reader of a parameter that takes the request or the WebSocket."""
    return subject


def path_value(at: int) -> Reader:
    """The reader of a path parameter that its converter has already converted."""
    return lambda _subject, values: values[at]
