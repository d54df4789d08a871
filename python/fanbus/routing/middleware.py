"""The middleware that wraps HTTP handlers: also functions before and after, and error handlers.

An application and each router have their own `Layer`. When a worker starts, the layers of each
route become one function, which Rust calls instead of the handler. A handler without layers is
called directly, at no cost.

From the outside in: the application's middleware, its routers' middleware, then the `Stack`:
functions before, handler, error handlers, functions after.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fanbus._core import as_response
from fanbus.exceptions import FanbusError, HTTPError
from fanbus.parameters.signature import Handler, is_async_itself, location
from fanbus.requests import Request
from fanbus.responses import Response

if TYPE_CHECKING:
    from fanbus.runtime.thread_pool import Pool

__all__ = ["CallNext", "Layer", "no_route", "wrap"]

CallNext = Callable[[Request], Awaitable[Response]]
Middleware = Callable[[Request, CallNext], Awaitable[Any]]


@dataclass(frozen=True)
class ErrorHandler:
    """The function that handles errors of a status or of a class of exceptions."""

    function: Callable[..., Any]
    arguments: tuple[str, ...]
    """`request` and `error`, in the order of the function."""

    def values(self, request: Request, error: BaseException) -> list[Any]:
        """The arguments of the function."""
        return [request if each == "request" else error for each in self.arguments]


@dataclass
class Layer:
    """The functions that one application or one router has around its handlers."""

    middleware: list[Middleware] = field(default_factory=list)
    before: list[Callable[[Request], Any]] = field(default_factory=list)
    after: list[Callable[[Request, Response], Any]] = field(default_factory=list)
    by_status: dict[int, ErrorHandler] = field(default_factory=dict)
    by_class: dict[type[BaseException], ErrorHandler] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.middleware or self.before or self.after or self.by_status or self.by_class)

    def sees_requests(self) -> bool:
        """Whether a function of it must see each request before the response."""
        return bool(self.middleware or self.before)

    def functions(self) -> list[Callable[..., Any]]:
        """All functions except the middleware."""
        handlers = [*self.by_status.values(), *self.by_class.values()]
        return [*self.before, *self.after, *(each.function for each in handlers)]

    def add_middleware(self, function: Middleware) -> None:
        """Adds middleware. FanbusError if it is not an asynchronous function of two parameters."""
        if not (callable(function) and is_async_itself(function)):
            raise FanbusError(
                f"The middleware {_name(function)} must be async: write "
                "`async def middleware(request, call_next): return await call_next(request)`."
            )
        _check_parameters(function, "middleware", ("request", "call_next"))
        self.middleware.append(function)

    def add_before(self, function: Callable[[Request], Any]) -> None:
        """Adds a function. FanbusError if it cannot be called with a request."""
        _check_parameters(function, "before_request", ("request",))
        self.before.append(function)

    def add_after(self, function: Callable[[Request, Response], Any]) -> None:
        """Adds a function. FanbusError if it cannot be called with a request and a response."""
        _check_parameters(function, "after_request", ("request", "response"))
        self.after.append(function)

    def add_error_handler(self, of: Any, function: Callable[..., Any]) -> None:
        """Adds an error handler. FanbusError if there is one already, or if it cannot be called."""
        handlers: dict[Any, ErrorHandler]
        if isinstance(of, int) and not isinstance(of, bool) and 400 <= of <= 599:
            handlers = self.by_status
        elif isinstance(of, type) and issubclass(of, Exception):
            handlers = self.by_class
        else:
            raise FanbusError(
                f"errorhandler must be given a status from 400 to 599 or an exception class, as in "
                f"@app.errorhandler(404) or @app.errorhandler(ValueError), got {of!r}."
            )
        if of in handlers:
            raise FanbusError(
                f"errorhandler({_name(of)}) is there twice: {location(handlers[of].function)} and "
                f"{_name(function)}. Remove one of them."
            )
        handlers[of] = ErrorHandler(function, _error_arguments(function))


@dataclass(frozen=True)
class Stack:
    """The layers around one route, the application's first and the innermost router's last."""

    arounds: tuple[Layer, ...]

    def is_asynchronous(self, handler: Handler) -> bool:
        """Whether the handler or a function around it is. Otherwise all of them run on one
        thread."""
        functions = [each for around in self.arounds for each in around.functions()]
        has_middleware = any(around.middleware for around in self.arounds)
        return (
            handler.asynchronous or has_middleware or any(is_async_itself(it) for it in functions)
        )

    def befores(self) -> list[Callable[[Request], Any]]:
        """The functions before the handler, in the order of their calls."""
        return [function for around in self.arounds for function in around.before]

    def afters(self) -> list[Callable[[Request, Response], Any]]:
        """The functions after the handler, in the order of their calls: the reverse order of their
        declaration."""
        return [each for around in reversed(self.arounds) for each in reversed(around.after)]

    def middleware(self) -> list[Middleware]:
        """The middleware, the outermost first."""
        return [each for around in self.arounds for each in around.middleware]

    def handler_of(self, error: Exception) -> ErrorHandler | None:
        """The handler of an error: the most exact one of the innermost layer that has one.

        An HTTPError is matched by its status, and then by its class, but not by a handler of
        Exception. Any other error is matched by its class, and then by the status 500.
        """
        is_http = isinstance(error, HTTPError)
        for around in reversed(self.arounds):
            if isinstance(error, HTTPError) and error.status in around.by_status:
                return around.by_status[error.status]
            for kind in type(error).__mro__:
                if is_http and kind is Exception:
                    break
                if kind in around.by_class:
                    return around.by_class[kind]
            if not is_http and 500 in around.by_status:
                return around.by_status[500]
        return None

    def is_logged(self, handler: ErrorHandler, error: Exception) -> bool:
        """Whether an error is logged although it has a handler: the handler is for a status, and
        makes only the response of the client."""
        of_classes = [each for around in self.arounds for each in around.by_class.values()]
        return not isinstance(error, HTTPError) and not any(handler is each for each in of_classes)


def wrap(
    handler: Handler, arounds: tuple[Layer, ...], pool: Pool
) -> tuple[Callable[..., Any], bool]:
    """A function of the request and the path's values, and whether it is asynchronous."""
    stack = Stack(arounds)
    if stack.is_asynchronous(handler):
        return asynchronous_call(handler, stack, pool), True
    return synchronous_call(handler, stack), False


def synchronous_call(handler: Handler, stack: Stack) -> Callable[..., Any]:
    """The handler with its layers: a function of the request and the values of the path."""
    befores, afters = stack.befores(), stack.afters()
    call, order = handler.call, _order(handler)

    def answer(request: Request, values: Sequence[Any]) -> Response:
        try:
            for before in befores:
                early = before(request)
                if early is not None:
                    return as_response(early)
            return as_response(call(*order(request, values)))
        except Exception as error:  # noqa: BLE001 - its error handler is called
            error_handler = stack.handler_of(error)
            if error_handler is None:
                return _refusal(error)
            if stack.is_logged(error_handler, error):
                _log(request, error)
            result = error_handler.function(*error_handler.values(request, error))
            return _error_response(result, error)

    def around(request: Request, *values: Any) -> Response:
        response = answer(request, values)
        for after in afters:
            other = after(request, response)
            if other is not None:
                response = as_response(other)
        return response

    return around


def asynchronous_call(handler: Handler, stack: Stack, pool: Pool) -> Callable[..., Any]:
    """As `synchronous_call`, on the event loop. Synchronous functions run on threads of the
    pool."""
    befores, afters = stack.befores(), stack.afters()
    call, order = handler.call, _order(handler)
    handler_is_async = handler.asynchronous

    async def do(function: Callable[..., Any], *arguments: Any) -> Any:
        if is_async_itself(function):
            return await function(*arguments)
        result = await pool.run(function, *arguments)
        return await result if inspect.iscoroutine(result) else result

    async def answer(request: Request, values: Sequence[Any]) -> Response:
        try:
            for before in befores:
                early = await do(before, request)
                if early is not None:
                    return as_response(early)
            if handler_is_async:
                return as_response(await call(*order(request, values)))
            return as_response(await pool.run(call, *order(request, values)))
        except Exception as error:  # noqa: BLE001 - its error handler is called
            return await refuse(request, error)

    async def refuse(request: Request, error: Exception) -> Response:
        error_handler = stack.handler_of(error)
        if error_handler is None:
            return _refusal(error)
        if stack.is_logged(error_handler, error):
            _log(request, error)
        result = await do(error_handler.function, *error_handler.values(request, error))
        return _error_response(result, error)

    async def dispatch(request: Request, values: Sequence[Any]) -> Response:
        response = await answer(request, values)
        for after in afters:
            other = await do(after, request, response)
            if other is not None:
                response = as_response(other)
        return response

    middleware = stack.middleware()
    if not middleware:

        async def plain(request: Request, *values: Any) -> Response:
            return await dispatch(request, values)

        return plain

    async def around(request: Request, *values: Any) -> Response:
        def after_this(at: int) -> CallNext:
            if at == len(middleware):
                return lambda request: dispatch(request, values)

            async def call_next(request: Request) -> Response:
                return as_response(await middleware[at](request, after_this(at + 1)))

            return call_next

        try:
            return await after_this(0)(request)
        except Exception as error:  # noqa: BLE001 - its error handler is called
            return await refuse(request, error)

    return around


def _log(request: Request, error: Exception) -> None:
    from fanbus.runtime.logs import log_error  # here, so that `import fanbus` stays fast

    log_error(f"{request.method} {request.path}", error)


def no_route(_request: Request, status: int, sentence: str, allow: str) -> None:
    """The handler of requests without a route: 404, or 405 with the allowed methods."""
    raise HTTPError(status, sentence, headers={"allow": allow} if allow else None)


def _refusal(error: Exception) -> Response:
    """The response of an HTTPError. Any other error is raised again: Rust logs it and answers with
    500."""
    if isinstance(error, HTTPError):
        return Response(f"{error.body}\n", error.status, error.headers)
    raise error


def _error_response(value: Any, error: Exception) -> Response:
    """The response of an error handler. It has the status of the error, unless the handler returns
    one."""
    has_status = isinstance(value, (Response, tuple)) or hasattr(value, "status")
    response = as_response(value)
    if not has_status:
        response.status = error.status if isinstance(error, HTTPError) else 500
    return response


def _order(handler: Handler) -> Callable[[Request, Sequence[Any]], Sequence[Any]]:
    """Makes the handler's arguments of the request and the path's values."""
    arguments = handler.arguments
    if None not in arguments:
        return lambda _request, values: values
    if arguments.count(None) == 1 and arguments[0] is None:
        return lambda request, values: (request, *values)

    def mixed(request: Request, values: Sequence[Any]) -> list[Any]:
        rest = iter(values)
        return [request if each is None else next(rest) for each in arguments]

    return mixed


def _name(thing: Any) -> str:
    return location(thing) if inspect.isroutine(thing) else getattr(thing, "__name__", repr(thing))


def _check_parameters(function: Any, what: str, names: tuple[str, ...]) -> None:
    if not callable(function):
        raise FanbusError(
            f"@app.{what} takes a function: write it without parentheses above the function."
        )
    try:
        inspect.signature(function).bind(*names)
    except TypeError:
        raise FanbusError(
            f"{_name(function)} is called by {what} with {' and '.join(names)}: write "
            f"`def {getattr(function, '__name__', what)}({', '.join(names)})`."
        ) from None
    except ValueError:  # the function has no signature
        return


def _error_arguments(function: Any) -> tuple[str, ...]:
    if not callable(function):
        raise FanbusError("errorhandler takes a function: put the decorator on one.")
    parameters = [
        each
        for each in inspect.signature(function).parameters.values()
        if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
        and each.default is each.empty
    ]
    arguments = tuple(
        "request"
        if each.name in ("request", "req") or each.annotation in (Request, "Request")
        else "error"
        for each in parameters
    )
    if len(set(arguments)) != len(arguments):
        raise FanbusError(
            f"The error handler {_name(function)} takes the error, or the request and the error: "
            "write `def handler(request, error)`."
        )
    return arguments
