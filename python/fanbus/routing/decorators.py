"""The decorators that declare routes.

Applications and routers share them.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fanbus.exceptions import RouteError
from fanbus.openapi.description import Description
from fanbus.parameters.signature import location
from fanbus.routing.routes import FolderRoute, HttpRoute, Route, TurboRoute, WebSocketRoute
from fanbus.websocket import WebSocketConfig

if TYPE_CHECKING:
    from os import PathLike

    from typing_extensions import Unpack

    from fanbus.openapi.description import Described
    from fanbus.routing.session_hooks import Hook

__all__ = ["RouteDecorators", "check_body_size"]

# The user's function, returned unchanged, so that decorators can be stacked.
_Function = TypeVar("_Function", bound=Callable[..., Any])

_METHOD = re.compile(r"[A-Z][A-Z-]*")
_BODY_SIZES = range(2**40 + 1)
_MAX_TTL_S = 10 * 366 * 86_400


class RouteDecorators(ABC):
    """The decorators of an object that has routes."""

    @abstractmethod
    def _declare(self, route: Route) -> None:
        """Adds a route. RouteError if it cannot work."""

    def route(
        self,
        path: str,
        *,
        methods: Iterable[str] = ("GET",),
        name: str | None = None,
        max_body_size: int | None = None,
        stream_body: bool = False,
        **described: Unpack[Described],
    ) -> Callable[[_Function], _Function]:
        """Serves HTTP requests to a path, by default GET (which answers HEAD too).

        `path` may have parameters: `/users/{user_id}`, `/users/{user_id:int}` or
        `/users/<int:user_id>`. The handler may take them by name, and the request as a parameter
        called `request` or annotated as `Request`. Other annotated parameters are read from the
        query, a header, a cookie or the JSON body, and checked (422). The handler is `async def` or
        `def`; a `def` runs on a thread and may block. It returns dict or list (JSON), str (text),
        bytes, a model or a `Response`, or is a generator, whose chunks are sent at once.

        Rust answers OPTIONS with the methods of the path, unless a route has this method. `name` is
        for `url_for`; by default it is the name of the function. `max_body_size`: the maximum size
        of a request body in bytes. Above it, the client gets 413 and the handler is not called.
        None: the limit of the application, 16 MiB by default. A multipart form takes at most 1 MiB
        of memory; the rest is in files.

        `stream_body=True`: the handler is called before the body is read, and reads it itself with
        `async for chunk in request.stream()`, or with `for` in a `def`. The body may then have any
        size, unless the route has a `max_body_size` of its own; 64 KiB of it are read ahead.

        `described` are the options for the OpenAPI document: `tags`, `responses`, `deprecated`,
        `include_in_schema`.

        Raises RouteError if the path or the handler's signature cannot work.
        """
        _check_path(path, "route")
        if isinstance(methods, str):
            raise RouteError(
                f'methods must be a list of strings, got {methods!r}: write methods=["{methods}"].'
            )
        verbs = [_verb(method, path) for method in methods]
        if not verbs:
            raise RouteError(f'The route "{path}" has no methods: write methods=["GET"].')
        check_body_size(max_body_size, f'The route "{path}"')

        description = Description.checked(described, path)

        def decorate(function: _Function) -> _Function:
            named = _named(function, name)
            self._declare(
                HttpRoute(
                    path,
                    *named,
                    tuple(verbs),
                    max_body_size,
                    stream_body=stream_body,
                    described=description,
                )
            )
            return function

        return decorate

    def get(
        self, path: str, *, name: str | None = None, **described: Unpack[Described]
    ) -> Callable[[_Function], _Function]:
        """`route` for GET and HEAD."""
        _check_path(path, "get")
        return self.route(path, methods=("GET",), name=name, **described)

    def post(
        self,
        path: str,
        *,
        name: str | None = None,
        max_body_size: int | None = None,
        stream_body: bool = False,
        **described: Unpack[Described],
    ) -> Callable[[_Function], _Function]:
        """`route` for POST."""
        _check_path(path, "post")
        return self.route(
            path,
            methods=("POST",),
            name=name,
            max_body_size=max_body_size,
            stream_body=stream_body,
            **described,
        )

    def put(
        self,
        path: str,
        *,
        name: str | None = None,
        max_body_size: int | None = None,
        stream_body: bool = False,
        **described: Unpack[Described],
    ) -> Callable[[_Function], _Function]:
        """`route` for PUT."""
        _check_path(path, "put")
        return self.route(
            path,
            methods=("PUT",),
            name=name,
            max_body_size=max_body_size,
            stream_body=stream_body,
            **described,
        )

    def patch(
        self,
        path: str,
        *,
        name: str | None = None,
        max_body_size: int | None = None,
        stream_body: bool = False,
        **described: Unpack[Described],
    ) -> Callable[[_Function], _Function]:
        """`route` for PATCH."""
        _check_path(path, "patch")
        return self.route(
            path,
            methods=("PATCH",),
            name=name,
            max_body_size=max_body_size,
            stream_body=stream_body,
            **described,
        )

    def delete(
        self,
        path: str,
        *,
        name: str | None = None,
        max_body_size: int | None = None,
        stream_body: bool = False,
        **described: Unpack[Described],
    ) -> Callable[[_Function], _Function]:
        """`route` for DELETE."""
        _check_path(path, "delete")
        return self.route(
            path,
            methods=("DELETE",),
            name=name,
            max_body_size=max_body_size,
            stream_body=stream_body,
            **described,
        )

    def turbo_route(
        self,
        path: str,
        *,
        cache_ttl: float | None = None,
        name: str | None = None,
        **described: Unpack[Described],
    ) -> Callable[[_Function], _Function]:
        """Serves GET and HEAD with responses that Rust caches.

        The function is called once for each path and query, in each worker. All clients get its
        response for `cache_ttl` seconds (None: until the worker ends). Requests that arrive during
        the call wait for the same response. So the function must not read values that differ
        between clients, such as headers and cookies. The response gets an ETag if it has none: a
        client that sends this ETag gets 304.

        `after_request` and `errorhandler` around it are called with the function. `before_request`
        and middleware see each request: with one of them around it, responses are not cached.

        These responses are not cached: with a status of 500 or more, with `Set-Cookie`, `Vary`, or
        a `Cache-Control` with `private` or `no-store`, files, streams, and responses above 2 MiB. A
        worker caches at most 4096 responses and 16 MiB; above that, it removes the responses that
        were not requested for the longest time.

        Raises RouteError if the path, the time or the signature cannot work.
        """
        _check_path(path, "turbo_route")
        if cache_ttl is not None and (
            isinstance(cache_ttl, bool)
            or not isinstance(cache_ttl, (int, float))
            or not 0 < cache_ttl <= _MAX_TTL_S
        ):
            raise RouteError(
                f'The route "{path}": cache_ttl must be a number of seconds above 0, or None for '
                f"responses that never expire, got {cache_ttl!r}."
            )

        ttl = None if cache_ttl is None else float(cache_ttl)
        description = Description.checked(described, path)

        def decorate(function: _Function) -> _Function:
            named = _named(function, name)
            self._declare(HttpRoute(path, *named, ("GET",), None, True, ttl, description))
            return function

        return decorate

    def websocket(
        self, path: str, *, config: WebSocketConfig | None = None, name: str | None = None
    ) -> Callable[[_Function], _Function]:
        """Serves WebSockets on a path: the handler is called once per connection.

        The handler is `async def`. It takes the `WebSocket` as a parameter called `ws` or
        `websocket`, or annotated as `WebSocket`, and path parameters by name. Other annotated
        parameters are read from the handshake's query, a header or a cookie; if a value is wrong,
        the handshake is refused (422). When the handler returns, the connection is closed with
        1000; when it raises, with 1011.

        Raises RouteError if the path or the handler's signature cannot work.
        """
        _check_path(path, "websocket")
        config = _checked_config(config, path)

        def decorate(function: _Function) -> _Function:
            self._declare(WebSocketRoute(path, *_named(function, name), config))
            return function

        return decorate

    def turbo_websocket(
        self,
        path: str,
        *,
        response_prefix: str | None = None,
        broadcast: str | None = None,
        config: WebSocketConfig | None = None,
        on_open: Hook | None = None,
        on_close: Hook | None = None,
        name: str | None = None,
    ) -> Callable[[_Function], _Function]:
        """Serves WebSockets on a path in Rust, without Python for each message.

        Exactly one of two options is required. `response_prefix="Echo: "` sends each message back
        with the prefix before it. `broadcast="room:{room}"` publishes it to the topic, with path
        parameters filled in, and subscribes every client to it.

        The function is called only if it has parameters: the request, path parameters, or the other
        parameters of `websocket`. Then it is called once per connection, and refuses it by
        returning False or raising HTTPError.

        `on_open(session)` and `on_close(session)` are called once for each session, in this order,
        also when the client vanishes. They may be `async def`, or `def`, which runs on a thread and
        may block; no frame waits for them. The session has `id`, `path`, `path_params`, `query`,
        `headers`, `client`, and, once it is closed, `close_code` and `close_reason`. Their
        exceptions are logged.

        Raises RouteError if the path, the topic or the signature cannot work.
        """
        _check_path(path, "turbo_websocket")
        config = _checked_config(config, path)
        if (response_prefix is None) == (broadcast is None):
            given = "neither" if broadcast is None else "both"
            raise RouteError(
                f'The turbo route "{path}" has {given} of response_prefix and broadcast. Give it '
                'one: response_prefix="" to echo, or broadcast="topic" to relay to all clients.'
            )
        for option, value in (("response_prefix", response_prefix), ("broadcast", broadcast)):
            if value is not None and not isinstance(value, str):
                raise RouteError(
                    f'The turbo route "{path}": {option} must be a string, got {value!r}.'
                )

        for option, hook in (("on_open", on_open), ("on_close", on_close)):
            if hook is not None and not callable(hook):
                raise RouteError(
                    f'The turbo route "{path}": {option} must be a function that takes the '
                    f"session, got {hook!r}."
                )

        def decorate(function: _Function) -> _Function:
            self._declare(
                TurboRoute(
                    path,
                    *_named(function, name),
                    response_prefix,
                    broadcast,
                    config,
                    on_open,
                    on_close,
                )
            )
            return function

        return decorate

    def static(
        self,
        path: str,
        folder: str | PathLike[str],
        *,
        max_age: int | None = None,
        precompressed: bool = False,
        name: str = "static",
    ) -> None:
        """Serves the files of a folder below a path, in Rust, with ETag, Last-Modified, ranges and
        304.

        `app.static("/static", "assets")` serves `assets/css/a.css` at `/static/css/a.css`. A
        relative folder is relative to the file of the caller. A path that ends with a slash serves
        the `index.html` there; the same path without the slash redirects to it. Files outside of
        the folder are never served, even if a link in the folder points to them. Files and folders
        whose name begins with a dot are not served, except `.well-known`.

        `max_age`: the seconds for which clients may cache a file; None: they decide.
        `precompressed`: `a.css.br`, `a.css.zst` or `a.css.gz` beside `a.css` is sent to clients
        that accept it, in this order, unless their `Accept-Encoding` prefers another. The build
        that changes `a.css` must write them again. `url_for(name, path="css/a.css")` returns the
        URL of a file.

        Raises RouteError if there is no such folder, or for a path that does not begin with a
        slash.
        """
        caller = sys._getframe(1)
        root = Path(caller.f_code.co_filename).parent / Path(folder)
        written_at = f"{caller.f_code.co_filename}:{caller.f_lineno}"
        _check_path(path, "static")
        if not root.is_dir():
            raise RouteError(f'static("{path}", ...) at {written_at}: {root} is not a directory.')
        if max_age is not None and (not isinstance(max_age, int) or max_age < 0):
            raise RouteError(
                f'static("{path}", ...) at {written_at}: max_age must be a number of seconds, '
                f"got {max_age!r}."
            )
        self._declare(
            FolderRoute(
                f"{path.rstrip('/')}/{{path:path}}",
                _folder,
                name,
                name != "static",
                str(root.absolute()),
                None if max_age is None else f"public, max-age={max_age}",
                precompressed,
                written_at,
            )
        )


def _folder() -> None:
    """The function of a folder's route, which is never called."""


def _named(function: Callable[..., Any], name: str | None) -> tuple[Callable[..., Any], str, bool]:
    """The function, the name of the route, and whether that is explicit."""
    if name is None:
        plain = getattr(function, "__name__", None) or type(function).__name__
        return function, plain, False
    if not isinstance(name, str) or not name:
        raise RouteError(
            f"Handler {location(function)}: name must be a non-empty string, got {name!r}."
        )
    return function, name, True


def check_body_size(size: Any, whose: str) -> None:
    """RouteError if the size is not a valid limit."""
    is_number = isinstance(size, int) and not isinstance(size, bool)
    if size is not None and not (is_number and size in _BODY_SIZES):
        raise RouteError(
            f"{whose}: max_body_size must be a whole number of bytes, from 0 to 1 TiB, "
            f"got {size!r}."
        )


def _check_path(path: Any, decorator: str) -> None:
    if callable(path):
        raise RouteError(
            f"@app.{decorator} on {location(path)} has no path: "
            f'write @app.{decorator}("/{getattr(path, "__name__", "path")}").'
        )
    if not isinstance(path, str):
        raise RouteError(f'@app.{decorator}: the path must be a string such as "/", got {path!r}.')


def _verb(method: Any, path: str) -> str:
    if not isinstance(method, str) or not _METHOD.fullmatch(method.upper()):
        raise RouteError(f'The route "{path}": {method!r} is not an HTTP method such as "POST".')
    return method.upper()


def _checked_config(config: Any, path: str) -> WebSocketConfig:
    if config is None:
        return WebSocketConfig()
    if not isinstance(config, WebSocketConfig):
        raise RouteError(
            f'The route "{path}": config must be a WebSocketConfig, got {type(config).__name__}. '
            "Write config=WebSocketConfig(max_message_size=65536)."
        )
    return config
