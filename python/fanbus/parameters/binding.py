"""What a handler's annotated parameters are read from, worked out once, when it is decorated.

Each becomes a `BoundParameter`: a function that reads its value from a request, or from the
handshake of a WebSocket, and what a document says about it. One ValidationError lists all wrong
values.
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
from fanbus.parameters.annotations import Asked, shown, taken_apart
from fanbus.parameters.markers import Body, Cookie, Header, Parameter, Path, Query
from fanbus.parameters.models import decoder, has_model
from fanbus.parameters.scalars import limited, scalar
from fanbus.requests import Request
from fanbus.websocket import WebSocket

__all__ = [
    "CONVERTED",
    "BoundParameter",
    "Reader",
    "as_it_comes",
    "bind_parameter",
    "reading",
    "the_subject",
]

Subject = Request | WebSocket
"""What has a query, headers and cookies."""

Reader = Callable[[Any, Sequence[Any]], Any]
"""Makes a value of a subject and the values of its path. ValidationError if it cannot be made."""

Place = Literal["path", "query", "header", "cookie", "body"]

CONVERTED: dict[str, type] = {"str": str, "path": str, "int": int, "float": float, "uuid": UUID}
"""What the converters of a path make."""

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
    """In the request."""
    annotation: Any
    """Its type, without what `Annotated` says besides."""
    schema: dict[str, Any]
    """JSON Schema of its values; a body's is made when a document asks for it."""
    read: Reader
    default: Any
    """What the handler gets if the request does not have it; `inspect.Parameter.empty`: it must."""
    description: str | None = None
    deprecated: bool = False

    @property
    def is_required(self) -> bool:
        """Whether a request without it is refused."""
        return self.default is inspect.Parameter.empty


def reading(
    call: Callable[..., Any], reads: Sequence[Reader], *, late: bool = False
) -> Callable[..., Any]:
    """The function, to be called with its subject and the values of its path.

    `late`: `call` gives a coroutine, and its arguments are read when that runs. Handlers are
    started many at a time, and a body that became a model at once would wait in memory for all the
    others: models of 64 bodies of 50 KB took 50 MB, and twice the time.
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
    """How a parameter is read. RouteError, with the handler's place, if it cannot be.

    `converter` is that of the path's parameter of this name, which has the number `at`; None if the
    path has none. `has_body`: what it is read from is not a handshake.
    """
    told = f"Handler {where} annotates {parameter.name!r} as {shown(annotation)}"
    asked = taken_apart(annotation, told)
    _check_marker(parameter, asked, converter, where)
    if isinstance(parameter.default, (Parameter, Body)):
        marker = parameter.default
        raise RouteError(
            f"Handler {where} has the marker {marker!r} as the default of {parameter.name!r}. "
            f"Write it into the annotation: {parameter.name}: Annotated[..., {marker!r}]."
        )
    if converter is not None:
        return _from_path(parameter.name, asked, converter, at, told)
    kind, many = _items(asked.kind)
    item = taken_apart(kind, told)
    found = None if isinstance(asked.marker, Body) else scalar(item.kind)
    if found is None:
        if isinstance(asked.marker, Parameter) or not (
            isinstance(asked.marker, Body) or _is_body(asked.kind)
        ):
            usable = _SCALARS if has_body else _SCALARS_ALONE
            raise RouteError(f"{told}, which no text of a request can be. Use {usable}.")
        if not has_body:
            raise RouteError(
                f"{told}, which only a JSON body can be, but the handshake of a WebSocket has "
                f"none. Use {_SCALARS_ALONE}, or read it from the first message."
            )
        return _from_body(parameter, annotation, asked, told)
    read, schema = _limited(found.read, found.schema, item, told)
    if many:
        read, schema = _each(read), {"type": "array", "items": schema}
    read, schema = _limited(read, schema, asked, told)
    if many and isinstance(asked.marker, Cookie):
        raise RouteError(f"{told}, but a cookie has one value. Take it as str.")
    place = _PLACES[type(asked.marker)] if isinstance(asked.marker, Parameter) else "query"
    name = _name(parameter, asked)
    default = _default(parameter, asked)
    absent = _absent([place, name], default)
    return BoundParameter(
        place,
        name,
        asked.kind,
        schema,
        _reader(place, name, read, many=many, absent=absent),
        default,
        asked.description,
        isinstance(asked.marker, Parameter) and asked.marker.deprecated,
    )


def _check_marker(
    parameter: inspect.Parameter, asked: Asked, converter: str | None, where: str
) -> None:
    marker = asked.marker
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


def _from_path(name: str, asked: Asked, converter: str, at: int, told: str) -> BoundParameter:
    made = CONVERTED[converter]
    known = scalar(made if made is not str else asked.kind)
    if known is None or asked.may_be_none or (made is not str and asked.kind is not made):
        instead = _SCALARS.partition(", one of")[0] if made is str else made.__name__
        raise RouteError(f"{told}, but the path has it as {converter!r}. Use {instead}.")
    whole: Callable[[Any], Any] = known.read if made is str else _as_it_is
    read, schema = _limited(whole, known.schema, asked, told)

    def from_path(_subject: Subject, values: Sequence[Any]) -> Any:
        try:
            return read(values[at])
        except ValueError as error:
            raise _wrong(["path", name], error) from None

    deprecated = isinstance(asked.marker, Parameter) and asked.marker.deprecated
    return BoundParameter(
        "path",
        name,
        asked.kind,
        schema,
        from_path,
        inspect.Parameter.empty,
        asked.description,
        deprecated,
    )


def _from_body(
    parameter: inspect.Parameter, annotation: Any, asked: Asked, told: str
) -> BoundParameter:
    # The marker is nothing that the libraries know; what else `Annotated` says is theirs.
    try:
        decode = decoder(annotation).decode
    except TypeError as error:
        raise RouteError(f"{told}: {error}") from None
    default = _default(parameter, asked)
    absent = _absent(["body"], default)

    def from_body(request: Request, _values: Sequence[Any]) -> Any:
        body = json_body(request)
        return decode(body) if body else absent()

    return BoundParameter("body", "body", annotation, {}, from_body, default, asked.description)


def _is_body(kind: Any) -> bool:
    """Whether it can only be the JSON body."""
    return kind is dict or get_origin(kind) is dict or has_model(kind)


def _items(kind: Any) -> tuple[Any, bool]:
    """The type of one text, and whether there may be several."""
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
    """Written out for each place: these run for every request."""
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
        found = subject.cookies if place == "cookie" else subject.headers
        text = found.get(name)
        try:
            return absent() if text is None else read(text)
        except ValueError as error:
            raise _wrong(loc, error) from None

    def from_headers(subject: Subject, _values: Sequence[Any]) -> Any:
        lines = subject.headers.get_all(name)
        # A list, over one line or several; what is empty does not count (RFC 9110, 5.6.1).
        texts = [text.strip() for text in ",".join(lines).split(",") if text.strip()]
        try:
            return read(texts) if texts else absent()
        except ValueError as error:
            raise _wrong(loc, error) from None

    return from_headers if many else from_elsewhere


def _default(parameter: inspect.Parameter, asked: Asked) -> Any:
    """None can only mean that it is not there, so `int | None` need not be told twice."""
    is_absent = parameter.default is parameter.empty and asked.may_be_none
    return None if is_absent else parameter.default


def _absent(loc: list[str | int], default: Any) -> Callable[[], Any]:
    """What is done if the request does not have it."""
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
    read: Callable[[Any], Any], schema: Any, asked: Asked, told: str
) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    try:
        return limited(read, schema, asked.limits)
    except ValueError as error:
        raise RouteError(f"{told}: {error}.") from None


def _name(parameter: inspect.Parameter, asked: Asked) -> str:
    marker = asked.marker
    if isinstance(marker, Parameter) and marker.alias is not None:
        return marker.alias
    return parameter.name.replace("_", "-") if isinstance(marker, Header) else parameter.name


def _as_it_is(value: Any) -> Any:
    return value


def the_subject(subject: Subject, _values: Sequence[Any]) -> Subject:
    """The reader of a parameter that takes the request or the WebSocket."""
    return subject


def as_it_comes(at: int) -> Reader:
    """The reader of a path's parameter that its converter has made already."""
    return lambda _subject, values: values[at]
