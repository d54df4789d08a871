"""The signature that determines the arguments of a handler, examined once, when it is decorated.

A parameter gets the request or the WebSocket (by its annotation, else by its name), a path
parameter (by its name), a value of the request that its annotation describes
(`fanbus.parameters.binding`), or its own default. Any other parameter raises an error at once, with
the handler, its file and line, and the remedy.
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
"""The name of a path parameter, None for the subject, or a parameter that is read from the
request."""

_CLASSES: dict[Subject, type] = {"request": Request, "websocket": WebSocket}
_NAMES: dict[Subject, tuple[str, ...]] = {
    "request": ("request", "req"),
    "websocket": ("ws", "websocket"),
}
_UNCONVERTED = frozenset(
    {("str", "str"), ("path", "str"), ("int", "int"), ("float", "float"), ("uuid", "UUID")}
)
"""Converters with the types of their values."""
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Handler:
    """The function of a user, in a form that takes positional arguments only."""

    call: Callable[..., Any]
    asynchronous: bool
    arguments: tuple[str | None, ...]
    """The names of path parameters; None is the request or the WebSocket."""
    inputs: tuple[BoundParameter, ...] = ()
    """The parameters that `call` reads from the request or the WebSocket."""
    takes_subject: bool = False
    """The user's function has a parameter for the request or the WebSocket itself."""


def location(function: Callable[..., Any]) -> str:
    """The name of a handler in messages: `chat (app.py:12)`."""
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
    """Matches a signature with a path. Raises RouteError for a function that can never be called.

    `path_parameters` are names with their converters. `has_body`: the function serves requests. A
    handshake has all parts of a request except the body.
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
    in_order: list[str] = []  # passed by position; the others by keyword
    has_gap = False  # after a parameter with its default, the others are passed by keyword
    takes_others = False
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_others = True
            continue
        source: Source | _Unset
        if _is_annotated(parameter, path_parameters):
            source = _input(parameter, function, path_parameters, where, has_body=has_body)
        else:
            source = _source(parameter, subject, path, path_parameters, where)
        if isinstance(source, _Unset):
            has_gap = True
            continue
        if source is None and None in sources.values():
            raise RouteError(f"Handler {where} takes the {subject} twice; once is enough.")
        sources[parameter.name] = source
        if parameter.kind in _POSITIONAL and not has_gap:
            in_order.append(parameter.name)
        elif parameter.kind is parameter.POSITIONAL_ONLY:
            raise RouteError(
                f"Handler {where} takes {parameter.name!r} by position only, after a parameter "
                "that keeps its default. Change their order."
            )
    if takes_others:
        sources.update({name: name for name in path_parameters if name not in sources})

    by_keyword = [name for name in sources if name not in in_order]
    # An asynchronous generator is streamed; it awaits the body itself.
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
    """The result of `inspect.signature`. In Python 3.14, annotations that cannot be resolved are
    ForwardRefs."""
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
    """A handler that reads its arguments from its subject and the values of the path."""
    from fanbus.parameters.binding import BoundParameter, Reader, path_value, reading, the_subject

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
        else path_value(names.index(each))
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


def _is_annotated(parameter: inspect.Parameter, path_parameters: Mapping[str, str]) -> bool:
    """Whether the annotation of a parameter requires a conversion or a check."""
    annotation = parameter.annotation
    if annotation in (parameter.empty, Any, "Any") or _subject_of(parameter, path_parameters):
        return False
    converter = path_parameters.get(parameter.name)
    if converter is None:
        return True
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return (converter, text.strip("'\"").split(".")[-1]) not in _UNCONVERTED


def _input(
    parameter: inspect.Parameter,
    function: Callable[..., Any],
    path_parameters: Mapping[str, str],
    where: str,
    *,
    has_body: bool,
) -> BoundParameter:
    # Here, since many applications do not have such a handler.
    from fanbus.parameters.annotations import resolved
    from fanbus.parameters.binding import bind_parameter

    annotation = resolved(parameter.annotation, function, parameter.name, where)
    name = parameter.name
    at = list(path_parameters).index(name) if name in path_parameters else -1
    converter = path_parameters.get(name)
    return bind_parameter(
        parameter, annotation, converter=converter, at=at, where=where, has_body=has_body
    )


class _Unset(Enum):
    DEFAULT = "the parameter has its default"


def _source(
    parameter: inspect.Parameter,
    subject: Subject,
    path: str,
    path_parameters: Mapping[str, str],
    where: str,
) -> str | _Unset | None:
    """The name of a path parameter, None for the subject, or `_Unset.DEFAULT`."""
    name = parameter.name
    wanted = _subject_of(parameter, path_parameters)
    if wanted == subject:
        return None
    if wanted == "websocket":
        raise RouteError(
            f"Handler {where} takes a WebSocket as {name!r}, but serves HTTP requests. "
            "Decorate it with @app.websocket, or take a Request."
        )
    if wanted == "request" and parameter.default is parameter.empty:
        raise RouteError(
            f"Handler {where} takes a Request as {name!r}, but serves a WebSocket, which has "
            "the headers, query and cookies of its handshake itself. Leave the parameter out."
        )
    if name in path_parameters:
        return name
    if parameter.default is not parameter.empty:
        return _Unset.DEFAULT
    names = ", ".join(map(repr, path_parameters)) or "none"
    raise RouteError(
        f"Handler {where} takes {name!r}, which is not in the path {path!r} (its parameters: "
        f"{names}). Put {{{name}}} into the path, annotate it as {_CLASSES[subject].__name__} or, "
        "for the query, as str or the like, or give it a default."
    )


def _subject_of(parameter: inspect.Parameter, path_parameters: Mapping[str, str]) -> Subject | None:
    """The subject that a parameter takes: by its annotation, else by its name, unless the path has
    a parameter of that name."""
    # Python 3.14 has a ForwardRef for an annotation that cannot be resolved.
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
    """Whether a call returns a coroutine, according to the function itself."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with `async def __call__`
    )


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether it, or the `async def` in a plain decorator, is asynchronous: such a decorator
    returns the coroutine."""
    return is_async_itself(function) or inspect.iscoroutinefunction(inspect.unwrap(function))


def _awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """An asynchronous function around a plain wrapper, which may or may not return a coroutine."""

    @functools.wraps(function)
    async def call(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        return await result if inspect.isawaitable(result) else result

    return call


def _by_keyword(
    function: Callable[..., Any], positional: int, names: tuple[str, ...]
) -> Callable[..., Any]:
    """A function that passes its last arguments by name. Rust passes all of them by position."""

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        named = dict(zip(names, arguments[positional:], strict=True))
        return function(*arguments[:positional], **named)

    return call
