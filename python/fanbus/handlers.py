"""What a handler's signature asks for, found out once, when it is decorated.

A parameter gets the request or the WebSocket (by its annotation, else by its name), a path
parameter (by its name), or its own default. Everything else is a mistake, and is told at once
with the handler, its file and line, and the remedy.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from fanbus.exceptions import RouteError
from fanbus.requests import Request
from fanbus.websocket import WebSocket

__all__ = ["Handler", "Subject", "examine", "is_async_itself", "location"]

Subject = Literal["request", "websocket"]

_CLASSES: dict[Subject, type] = {"request": Request, "websocket": WebSocket}
_NAMES: dict[Subject, tuple[str, ...]] = {
    "request": ("request", "req"),
    "websocket": ("ws", "websocket"),
}
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Handler:
    """A user's function, ready to be called with positional arguments only."""

    call: Callable[..., Any]
    asynchronous: bool
    arguments: tuple[str | None, ...]
    """Path parameters by name; None is the request or the WebSocket."""


def location(function: Callable[..., Any]) -> str:
    """`chat (app.py:12)`: how messages name a handler."""
    plain = inspect.unwrap(function)
    plain = getattr(plain, "func", plain)  # functools.partial
    name = getattr(plain, "__qualname__", None) or type(plain).__qualname__
    code = getattr(plain, "__code__", None) or getattr(type(plain).__call__, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def examine(
    function: Callable[..., Any], *, subject: Subject, path: str, path_parameters: Sequence[str]
) -> Handler:
    """Matches a signature with a path. Raises RouteError for what can never be called."""
    where = location(function)
    if not callable(function):
        raise RouteError(f"{function!r} is not a function: put the decorator on the handler.")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise RouteError(f"The signature of handler {where} cannot be read: {error}.") from None

    sources: dict[str, str | None] = {}
    in_order: list[str] = []  # called by position; the rest by keyword
    gap = False  # a parameter that keeps its default: what follows goes by keyword
    extra = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = True
            continue
        source = _source(parameter, subject, path, path_parameters, where)
        if source is _Keeps.DEFAULT:
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
        given = set(sources.values())
        sources.update({name: name for name in path_parameters if name not in given})

    by_keyword = [name for name in sources if name not in in_order]
    # What an asynchronous generator makes is streamed; it awaits what it asks of the request.
    streams = subject == "request" and inspect.isasyncgenfunction(inspect.unwrap(function))
    asynchronous = streams or _is_async(function)
    call = function
    if asynchronous and not is_async_itself(function):
        call = _awaiting(call)
    if by_keyword:
        call = _by_keyword(call, len(in_order), tuple(by_keyword))
    arguments = tuple(sources[name] for name in (*in_order, *by_keyword))
    return Handler(call, asynchronous, arguments)


class _Keeps(Enum):
    DEFAULT = "the parameter keeps its default"


def _source(
    parameter: inspect.Parameter,
    subject: Subject,
    path: str,
    path_parameters: Sequence[str],
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
        f"{known}). Put {{{name}}} into the path, annotate it as {wanted}, or give it a default."
    )


def _asked_for(parameter: inspect.Parameter, path_parameters: Sequence[str]) -> Subject | None:
    """By annotation first; then by name, unless the path has a parameter of that name."""
    annotation = parameter.annotation
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
