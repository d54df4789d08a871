"""What a handler's signature asks for, found out once, when it is decorated.

A parameter gets the request or the WebSocket (by its annotation, else by its name), a path
parameter (by its name), what its annotation says of the request (`fanbus.inputs`), or its own
default. Everything else is a mistake, and is told at once with the handler, its file and line, and
the remedy.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Union

from fanbus.exceptions import RouteError
from fanbus.requests import Request
from fanbus.websocket import WebSocket

if TYPE_CHECKING:
    from fanbus.parameters.binding import BoundParameter

__all__ = ["Handler", "Subject", "bind_signature", "is_async_itself", "location"]

Subject = Literal["request", "websocket"]
Source = Union[str, "BoundParameter", None]
"""A path parameter's name, None for the subject, or what is read out of the request."""

_CLASSES: dict[Subject, type] = {"request": Request, "websocket": WebSocket}
_NAMES: dict[Subject, tuple[str, ...]] = {
    "request": ("request", "req"),
    "websocket": ("ws", "websocket"),
}
_AS_THEY_ARE = frozenset(
    {("str", "str"), ("path", "str"), ("int", "int"), ("float", "float"), ("uuid", "UUID")}
)
"""Converters, and the types that they make."""
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Handler:
    """A user's function, ready to be called with positional arguments only."""

    call: Callable[..., Any]
    asynchronous: bool
    arguments: tuple[str | None, ...]
    """Path parameters by name; None is the request or the WebSocket."""
    inputs: tuple[BoundParameter, ...] = ()
    """What `call` reads out of the request or the WebSocket, which it takes for that."""
    takes_subject: bool = False
    """The user's function has a parameter for the request or the WebSocket itself."""


def location(function: Callable[..., Any]) -> str:
    """`chat (app.py:12)`: how messages name a handler."""
    plain = inspect.unwrap(function)
    plain = getattr(plain, "func", plain)  # functools.partial
    name = getattr(plain, "__qualname__", None) or type(plain).__qualname__
    code = getattr(plain, "__code__", None) or getattr(type(plain).__call__, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def bind_signature(
    function: Callable[..., Any],
    *,
    subject: Subject,
    path: str,
    path_parameters: Mapping[str, str],
    has_body: bool = True,
) -> Handler:
    """Matches a signature with a path. Raises RouteError for what can never be called.

    `path_parameters` are names with their converters. `has_body`: it is called for requests, and
    not for handshakes, which have everything else.
    """
    where = location(function)
    if not callable(function):
        raise RouteError(
            f"The handler must be a function, got {function!r}: put the decorator on the handler."
        )
    try:
        parameters = list(signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise RouteError(f"The signature of handler {where} cannot be read: {error}.") from None

    sources: dict[str, Source] = {}
    in_order: list[str] = []  # called by position; the rest by keyword
    gap = False  # a parameter that keeps its default: what follows goes by keyword
    extra = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = True
            continue
        source: Source | _Keeps
        if _is_read(parameter, path_parameters):
            source = _input(parameter, function, path_parameters, where, has_body=has_body)
        else:
            source = _source(parameter, subject, path, path_parameters, where)
        if isinstance(source, _Keeps):
            gap = True
            continue
        if source is None and None in sources.values():
            raise RouteError(f"Handler {where} takes the {subject} twice; once is enough.")
        sources[parameter.name] = source
        if parameter.kind in _POSITIONAL and not gap:
            in_order.append(parameter.name)
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise RouteError(
                f"Handler {where} takes {parameter.name!r} by position only, after a parameter "
                "that keeps its default. Change their order."
            )
    if extra:
        sources.update({name: name for name in path_parameters if name not in sources})

    by_keyword = [name for name in sources if name not in in_order]
    # What an asynchronous generator makes is streamed; it awaits what it asks of the request.
    streams = subject == "request" and inspect.isasyncgenfunction(inspect.unwrap(function))
    asynchronous = streams or _is_async(function)
    call = function
    if asynchronous and not is_async_itself(function):
        call = _awaiting(call)
    if by_keyword:
        call = _by_keyword(call, len(in_order), tuple(by_keyword))
    arguments = [sources[name] for name in (*in_order, *by_keyword)]
    plain = tuple(each for each in arguments if each is None or isinstance(each, str))
    if len(plain) == len(arguments):
        return Handler(call, asynchronous, plain, takes_subject=None in plain)
    late = asynchronous and not streams
    return _reading(call, asynchronous, arguments, path_parameters, where, late=late)


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """As `inspect.signature`; Python 3.14 keeps annotations that it cannot find out as texts."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _reading(
    call: Callable[..., Any],
    asynchronous: bool,
    arguments: list[Source],
    path_parameters: Mapping[str, str],
    where: str,
    *,
    late: bool,
) -> Handler:
    """A handler that reads its arguments out of its subject and the path's values."""
    from fanbus.parameters.binding import BoundParameter, Reader, as_it_comes, reading, the_subject

    inputs = tuple(each for each in arguments if isinstance(each, BoundParameter))
    bodies = [each.annotation for each in inputs if each.place == "body"]
    if len(bodies) > 1:
        raise RouteError(
            f"Handler {where} takes two bodies, but a request has one. Make one model of them, "
            "which has both as its fields."
        )
    names = list(path_parameters)
    readers: list[Reader] = [
        the_subject
        if each is None
        else as_it_comes(names.index(each))
        if isinstance(each, str)
        else each.read
        for each in arguments
    ]
    return Handler(
        reading(call, readers, late=late and bool(bodies)),
        asynchronous,
        (None, *names),
        inputs,
        takes_subject=None in arguments,
    )


def _is_read(parameter: inspect.Parameter, path_parameters: Mapping[str, str]) -> bool:
    """Whether its annotation says more of it than that it comes as it is."""
    annotation = parameter.annotation
    if annotation in (parameter.empty, Any, "Any") or _asked_for(parameter, path_parameters):
        return False
    converter = path_parameters.get(parameter.name)
    if converter is None:
        return True
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return (converter, text.strip("'\"").split(".")[-1]) not in _AS_THEY_ARE


def _input(
    parameter: inspect.Parameter,
    function: Callable[..., Any],
    path_parameters: Mapping[str, str],
    where: str,
    *,
    has_body: bool,
) -> BoundParameter:
    # Here, for who has no such handler.
    from fanbus.parameters.annotations import resolved
    from fanbus.parameters.binding import bind_parameter

    annotation = resolved(parameter.annotation, function, parameter.name, where)
    name = parameter.name
    at = list(path_parameters).index(name) if name in path_parameters else -1
    converter = path_parameters.get(name)
    return bind_parameter(
        parameter, annotation, converter=converter, at=at, where=where, has_body=has_body
    )


class _Keeps(Enum):
    DEFAULT = "the parameter keeps its default"


def _source(
    parameter: inspect.Parameter,
    subject: Subject,
    path: str,
    path_parameters: Mapping[str, str],
    where: str,
) -> str | _Keeps | None:
    """A path parameter's name, None for the subject, or `_Keeps.DEFAULT`."""
    name = parameter.name
    asked = _asked_for(parameter, path_parameters)
    if asked == subject:
        return None
    if asked == "websocket":
        raise RouteError(
            f"Handler {where} takes a WebSocket as {name!r}, but serves HTTP requests. "
            "Decorate it with @app.websocket, or take a Request."
        )
    if asked == "request" and parameter.default is parameter.empty:
        raise RouteError(
            f"Handler {where} takes a Request as {name!r}, but serves a WebSocket, which has "
            "the headers, query and cookies of its handshake itself. Leave the parameter out."
        )
    if name in path_parameters:
        return name
    if parameter.default is not parameter.empty:
        return _Keeps.DEFAULT
    known = ", ".join(repr(known) for known in path_parameters) or "none"
    wanted = _CLASSES[subject].__name__
    raise RouteError(
        f"Handler {where} takes {name!r}, which is not in the path {path!r} (its parameters: "
        f"{known}). Put {{{name}}} into the path, annotate it as {wanted} or, for the query, as "
        "str or the like, or give it a default."
    )


def _asked_for(parameter: inspect.Parameter, path_parameters: Mapping[str, str]) -> Subject | None:
    """By annotation first; then by name, unless the path has a parameter of that name."""
    # A ForwardRef of Python 3.14 is its text.
    annotation = getattr(parameter.annotation, "__forward_arg__", parameter.annotation)
    for subject, wanted in _CLASSES.items():
        if annotation is wanted:
            return subject
        if isinstance(annotation, str) and annotation.strip("'\"").split(".")[-1] == (
            wanted.__name__
        ):
            return subject
    if parameter.name in path_parameters:
        return None
    for subject, names in _NAMES.items():
        if parameter.name in names and annotation in (parameter.empty, Any, "Any"):
            return subject
    return None


def is_async_itself(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine, as far as it can be seen of the function itself."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with `async def __call__`
    )


def _is_async(function: Callable[..., Any]) -> bool:
    """Also of a plain decorator around an `async def`, which hands its coroutine on."""
    return is_async_itself(function) or inspect.iscoroutinefunction(inspect.unwrap(function))


def _awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """For a plain wrapper that may or may not hand a coroutine on."""

    @functools.wraps(function)
    async def call(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        return await result if inspect.isawaitable(result) else result

    return call


def _by_keyword(
    function: Callable[..., Any], positional: int, names: tuple[str, ...]
) -> Callable[..., Any]:
    """Rust calls by position; this hands the last arguments on by name."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        named = dict(zip(names, arguments[positional:], strict=True))
        return function(*arguments[:positional], **named)

    return call
