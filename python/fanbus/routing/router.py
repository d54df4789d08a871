"""The decorators that declare routes, and routers that can be included under a prefix.

An application and a router have the same decorators. A router keeps what is declared on it, and
hands it on to whoever has included it, whether that was before or after.
"""

from __future__ import annotations

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fanbus.exceptions import RouteError
from fanbus.openapi.description import Description
from fanbus.parameters.signature import location
from fanbus.routing.middleware import Layer
from fanbus.routing.routes import FolderRoute, HttpRoute, Route, TurboRoute, WebSocketRoute
from fanbus.websocket import WebSocketConfig

if TYPE_CHECKING:
    from os import PathLike

    from typing_extensions import Unpack

    from fanbus.openapi.description import Described
    from fanbus.routing.session_hooks import Hook

__all__ = ["Decorators", "Router", "check_body_size"]

# The user's function, given back unchanged, so that decorators can be stacked.
_Function = TypeVar("_Function", bound=Callable[..., Any])

_METHOD = re.compile(r"[A-Z][A-Z-]*")
_BODY_SIZES = range(2**40 + 1)
_MOST_TTL_S = 10 * 366 * 86_400


class Decorators(ABC):
    """What declares routes, and what is around their handlers."""

    _around: Layer

    @abstractmethod
    def _declare(self, route: Route) -> None:
        """Takes a route in. RouteError if it cannot work."""

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
        `/users/<int:user_id>`. The handler takes those it wants by name, and the request as a
        parameter called `request` or annotated as `Request`. What else has an annotation is read
        out of the query, a header, a cookie or the JSON body, and checked (422). It may be
        `async def` or `def`; a `def` runs on a thread and may block. It returns dict or list
        (JSON), str (text), bytes, a model or a `Response`, or is a generator, whose pieces are sent
        as they come.

        OPTIONS is answered by itself, with the path's methods, unless a route has it. `name` is for
        `url_for`; by default it is the function's. `max_body_size`: bytes that the body of a
        request may have (413 above it, before the handler is called); None: that of the
        application, 16 MiB by default. A multipart form takes memory for 1 MiB of it at most, and
        the disk for the rest.

        `stream_body=True`: the handler is called before the body is read, and reads it itself with
        `async for piece in request.stream()`, or `for` in a `def`. The body may then be of any
        size, unless the route has a `max_body_size` of its own; 64 KiB of it are read ahead.

        `described` is for the OpenAPI document: `tags`, `responses`,
        `deprecated`, `include_in_schema`.

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
        """Serves GET and HEAD with answers that are kept in Rust, and asks the function seldom.

        It is asked once for each path and query, in each worker, and its answer given to everybody
        for `cache_ttl` seconds (None: as long as the worker lives); who comes while it is asked
        waits for the same answer. So it must not look at what differs from client to client, as
        headers and cookies do. The answer gets an ETag if it has none: a client that has it is
        answered with 304.

        `after_request` and `errorhandler` around it are asked as seldom. `before_request` and
        middleware see each request: with one of them around it, nothing is kept.

        Not kept are answers with a status of 500 or more, with `Set-Cookie`, `Vary`, or a
        `Cache-Control` with `private` or `no-store`, files, streams, and what is larger than 2 MiB.
        A worker keeps 4096 answers, and 16 MiB; above that, those that were asked for longest ago
        go.

        Raises RouteError if the path, the time or the signature cannot work.
        """
        _check_path(path, "turbo_route")
        if cache_ttl is not None and (
            isinstance(cache_ttl, bool)
            or not isinstance(cache_ttl, (int, float))
            or not 0 < cache_ttl <= _MOST_TTL_S
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

        It is `async def`, and takes the `WebSocket` as a parameter called `ws` or `websocket`, or
        annotated as such, and path parameters by name. What else has an annotation is read out of
        the handshake's query, a header or a cookie; if it is wrong, the handshake is refused (422).
        When it returns, the connection is closed with 1000; when it raises, with 1011.

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
        """Serves WebSockets on a path without Python: what a client sends is answered in Rust.

        Exactly one of the two says how. `response_prefix="Echo: "` sends each message back with
        the prefix before it. `broadcast="room:{room}"` publishes it to the topic, with path
        parameters filled in, and subscribes every client to it.

        The function is not called, unless it has parameters (the request, path parameters, what
        `websocket` takes besides): then it is asked once per connection, and refuses it by
        returning False or raising HTTPError.

        `on_open(session)` and `on_close(session)` are told of each session, once each and in this
        order, also when the client vanishes. They may be `async def`, or `def`, which runs on a
        thread and may block; no frame waits for them. The session has `id`, `path`, `path_params`,
        `query`, `headers`, `client`, and, once it is over, `close_code` and `close_reason`. What
        they raise is logged.

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
        relative folder is looked for beside the file that this is written in. A path that ends with
        a slash serves the `index.html` there; the same path without it redirects to it. Nothing
        outside of the folder is served, whatever the path or a link in the folder says, and nothing
        whose name begins with a dot, but for `.well-known`.

        `max_age`: seconds for which clients need not ask again; None: they decide.
        `precompressed`: `a.css.br`, `a.css.zst` or `a.css.gz` beside `a.css` is sent to clients
        that accept it, in this order, unless their `Accept-Encoding` prefers another. The build
        that changes `a.css` must write them again. `url_for(name, path="css/a.css")` makes the URL
        of a file.

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
                _nobody,
                name,
                name != "static",
                str(root.absolute()),
                None if max_age is None else f"public, max-age={max_age}",
                precompressed,
                written_at,
            )
        )

    def middleware(self, function: _Function) -> _Function:
        """Puts an asynchronous function around the HTTP handlers; a decorator.

        ```python
        @app.middleware
        async def timed(request, call_next):
            response = await call_next(request)  # a Response, whatever the handler returned
            response.headers.append(("x-by", "fanbus"))
            return response
        ```

        It may answer without `call_next`. What a handler raises and no `errorhandler` takes comes
        out of `call_next`, but an HTTPError is a response there. The first one is the outermost,
        and the application's are around a router's. A synchronous handler in it runs on a thread.

        It sees what is answered in Python, and with the application's also 404 and 405; not static
        files, automatic OPTIONS, redirects, and what is refused before a handler is called (413).

        Raises FanbusError if it is not `async def` with two parameters.
        """
        self._change().add_middleware(function)
        return function

    def before_request(self, function: _Function) -> _Function:
        """Has `function(request)` called before the HTTP handlers; a decorator.

        Sync or async. What it returns, if not None, is the response, and the handler is not called.
        The application's come before a router's, each in their order.

        Raises FanbusError if it cannot be called with a request.
        """
        self._change().add_before(function)
        return function

    def after_request(self, function: _Function) -> _Function:
        """Has `function(request, response)` called after the HTTP handlers; a decorator.

        Sync or async. It may change the response, or return another one. It is called for what
        handlers, `before_request`, HTTPError and error handlers answer, but not for an error that
        nobody handles. In reverse order: the last one first, a router's before the application's.

        Raises FanbusError if it cannot be called with a request and a response.
        """
        self._change().add_after(function)
        return function

    def errorhandler(self, of: int | type[Exception]) -> Callable[[_Function], _Function]:
        """Has a function answer errors: of a status (404), or of a class of exceptions.

        `function(error)` or `function(request, error)`, sync or async. What it returns is the
        response, with the error's status unless it names one. `errorhandler(404)` of the
        application answers what no route serves, 405 the same. An HTTPError goes to its status,
        then its class; other exceptions to the nearest class, then to 500, and
        `errorhandler(Exception)` gets no HTTPError. A router's come before the application's.

        Raises FanbusError for another status or class, and if there is one already.
        """

        def decorate(function: _Function) -> _Function:
            self._change().add_error_handler(of, function)
            return function

        return decorate

    def _change(self) -> Layer:
        """What is around the handlers, to be added to."""
        return self._around

    def include(self, router: Router, *, prefix: str = "", name: str | None = None) -> None:
        """Serves the routes of a router, each at `prefix` and its own path.

        The prefix may have parameters, as in `/rooms/{room}`, which handlers take like their own.
        It comes before the router's own prefix. `name`, by default the router's, comes before the
        names of its routes. A router may be included several times, under different prefixes.

        Raises RouteError if the prefix or one of the routes cannot work.
        """
        if not isinstance(router, Router):
            raise RouteError(
                f"include expects a Router, got {type(router).__name__}: include(Router())."
            )
        router._include_in(_Place(self, _checked_prefix(prefix), name or router.name))


class Router(Decorators):
    """Routes that are declared apart from the application, and included in it.

    ```python
    rooms = Router(prefix="/rooms/{room}", name="rooms")

    @rooms.get("/people")
    def people(room: str): ...

    app.include(rooms, prefix="/api")  # serves /api/rooms/{room}/people
    ```
    """

    def __init__(self, *, prefix: str = "", name: str | None = None) -> None:
        """`prefix` comes before the paths of all its routes. `name`, and a dot, comes before their
        names in `url_for`.

        Raises RouteError for a prefix that does not begin with a slash, or ends with one.
        """
        self.prefix = _checked_prefix(prefix)
        self.name = name
        self._around = Layer()
        self._routes: list[Route] = []
        self._places: list[_Place] = []

    def _declare(self, route: Route) -> None:
        route = route.below(self.prefix, None).within(self._around)
        for place in self._places:
            place.declare(route)
        self._routes.append(route)

    def _include_in(self, place: _Place) -> None:
        if place.parent is self or (
            isinstance(place.parent, Router) and place.parent._is_below(self)
        ):
            raise RouteError(f"The router {self!r} cannot be included in itself.")
        for route in self._routes:
            place.declare(route)
        self._places.append(place)

    def _is_below(self, other: Router) -> bool:
        """Whether it is included in the other one, or in what is."""
        parents = [place.parent for place in self._places if isinstance(place.parent, Router)]
        return any(parent is other or parent._is_below(other) for parent in parents)

    def __repr__(self) -> str:
        return f"<Router {self.name or self.prefix or '/'}: {len(self._routes)} routes>"


@dataclass(frozen=True)
class _Place:
    """Where a router is included."""

    parent: Decorators
    prefix: str
    name: str | None

    def declare(self, route: Route) -> None:
        self.parent._declare(route.below(self.prefix, self.name))


def _nobody() -> None:
    """The function behind a folder."""


def _named(function: Callable[..., Any], name: str | None) -> tuple[Callable[..., Any], str, bool]:
    """The function, the route's name, and whether it was given."""
    if name is None:
        plain = getattr(function, "__name__", None) or type(function).__name__
        return function, plain, False
    if not isinstance(name, str) or not name:
        raise RouteError(
            f"Handler {location(function)}: name must be a non-empty string, got {name!r}."
        )
    return function, name, True


def check_body_size(size: Any, whose: str) -> None:
    """RouteError if no body could have this size at most."""
    is_number = isinstance(size, int) and not isinstance(size, bool)
    if size is not None and not (is_number and size in _BODY_SIZES):
        raise RouteError(
            f"{whose}: max_body_size must be a whole number of bytes, from 0 to 1 TiB, "
            f"got {size!r}."
        )


def _checked_prefix(prefix: Any) -> str:
    if not isinstance(prefix, str) or (prefix and not prefix.startswith("/")):
        raise RouteError(
            f'The prefix must be a string that starts with a slash, as in "/api", got {prefix!r}.'
        )
    if prefix.endswith("/"):
        raise RouteError(
            f"The prefix {prefix!r} ends with a slash, and so would have two before each path. "
            "Leave it out."
        )
    return prefix


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
