"""The decorators that add middleware, hooks of requests and error handlers to a layer.

Applications and routers share them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fanbus.routing.middleware import Layer

__all__ = ["LayerDecorators"]

# The user's function, returned unchanged, so that decorators can be stacked.
_Function = TypeVar("_Function", bound=Callable[..., Any])


class LayerDecorators:
    """The decorators of an object that has a layer around its handlers."""

    _around: Layer

    def middleware(self, function: _Function) -> _Function:
        """A decorator: adds an asynchronous function around the HTTP handlers.

        ```python
        @app.middleware
        async def timed(request, call_next):
            response = await call_next(request)  # always a Response
            response.headers.append(("x-by", "fanbus"))
            return response
        ```

        It may return a response without `call_next`. `call_next` raises the exceptions of a handler
        that no `errorhandler` handles, except HTTPError, which is a response there. The first
        middleware is the outermost, and the application's is around a router's. A synchronous
        handler in it runs on a thread.

        It sees the requests that Python answers; the application's also sees 404 and 405. It does
        not see static files, automatic OPTIONS, redirects, and requests that are refused before a
        handler is called (413).

        Raises FanbusError if it is not `async def` with two parameters.
        """
        self._change().add_middleware(function)
        return function

    def before_request(self, function: _Function) -> _Function:
        """A decorator: `function(request)` is called before the HTTP handlers.

        It may be sync or async. If it returns a value other than None, that is the response, and
        the handler is not called. The application's functions run before a router's, each in the
        order of their declaration.

        Raises FanbusError if it cannot be called with a request.
        """
        self._change().add_before(function)
        return function

    def after_request(self, function: _Function) -> _Function:
        """A decorator: `function(request, response)` is called after the HTTP handlers.

        It may be sync or async. It may change the response, or return another one. It is called for
        responses of handlers, `before_request`, HTTPError and error handlers, but not for an error
        without an error handler. The order is reversed: the last function runs first, and a
        router's run before the application's.

        Raises FanbusError if it cannot be called with a request and a response.
        """
        self._change().add_after(function)
        return function

    def errorhandler(self, of: int | type[Exception]) -> Callable[[_Function], _Function]:
        """A decorator: the function handles errors of a status (404), or of a class of exceptions.

        It is `function(error)` or `function(request, error)`, sync or async. Its return value is
        the response, with the status of the error unless it returns one. The application's
        `errorhandler(404)` also handles requests without a route; so does 405. An HTTPError is
        matched by its status, then by its class. Other exceptions are matched by the nearest class,
        then by 500. `errorhandler(Exception)` does not get an HTTPError. A router's error handlers
        have precedence over the application's.

        Raises FanbusError for another status or class, and if there is one already.
        """

        def decorate(function: _Function) -> _Function:
            self._change().add_error_handler(of, function)
            return function

        return decorate

    def _change(self) -> Layer:
        """The layer around the handlers, for a function that adds to it."""
        return self._around
