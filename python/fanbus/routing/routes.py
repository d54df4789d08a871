"""The routes that an application declares: each has a path, a function and a name.

A route is data until it is registered with the router of an application. Then the signature of its
function is matched with its whole path. An error names the file and line of the function.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from fanbus import _core
from fanbus.exceptions import RouteError
from fanbus.openapi.description import Description
from fanbus.parameters.signature import Handler, bind_signature, location
from fanbus.websocket import WebSocketConfig

if TYPE_CHECKING:
    from fanbus.routing.middleware import Layer
    from fanbus.routing.session_hooks import Hook, Hooks

__all__ = [
    "FolderRoute",
    "HttpRoute",
    "Kind",
    "Names",
    "Route",
    "Served",
    "TurboRoute",
    "WebSocketRoute",
]

Kind = Literal["http", "websocket", "turbo"]

_BODYLESS = ("GET", "HEAD", "OPTIONS", "TRACE")

_Self = TypeVar("_Self", bound="Route")


@dataclass(frozen=True)
class Route:
    """The base class of all routes."""

    path: str
    function: Callable[..., Any]
    name: str
    """The name for `url_for`."""
    is_named: bool
    """Whether the user gave the name. Otherwise it is the name of the function, which several
    routes may have."""
    arounds: tuple[Layer, ...] = field(default=(), kw_only=True)
    """The layers of the routers around it, the outermost first."""
    group: str | None = field(default=None, kw_only=True)
    """The name of its router, or of the next router around that which has one."""

    kind: ClassVar[Kind]

    def below(self: _Self, prefix: str, name: str | None) -> _Self:
        """The same route in a router that is included at `prefix`, under `name`."""
        full = f"{name}.{self.name}" if name else self.name
        return replace(self, path=prefix + self.path, name=full, group=self.group or name)

    def within(self: _Self, around: Layer) -> _Self:
        """The same route with one more layer around it."""
        return replace(self, arounds=(around, *self.arounds))

    @property
    def place(self) -> str:
        """The name of the route in error messages."""
        return location(self.function)

    def register(self, router: _core.Router) -> Hooks | Served | None:
        """Adds it to the router in Rust. RouteError, with the place of the function, if it cannot
        work."""
        where = self.place
        with _named(where):
            return self._register(router, where)

    @abstractmethod
    def _register(self, router: _core.Router, where: str) -> Hooks | Served | None: ...


@dataclass(frozen=True)
class Served:
    """A registered HTTP route: the number of its endpoint, its handler and the route."""

    endpoint: int
    handler: Handler
    route: HttpRoute


@dataclass(frozen=True)
class HttpRoute(Route):
    """A route for requests with one of its methods."""

    methods: tuple[str, ...]
    max_body_size: int | None
    is_turbo: bool = False
    """Whether its responses are cached."""
    cache_ttl: float | None = None
    """The seconds for which they are cached; None: until the worker ends."""
    described: Description = field(default_factory=Description)
    """Its description for the OpenAPI document."""
    stream_body: bool = False
    """Whether the handler reads the body itself, chunk by chunk."""
    kind = "http"

    def _register(self, router: _core.Router, where: str) -> Served:
        handler = bind_signature(
            self.function,
            subject="request",
            path=self.path,
            path_parameters=router.path_parameters(self.path),
        )
        self._check(handler, where)
        endpoint = router.add_http(
            self.methods,
            self.path,
            handler.call,
            asynchronous=handler.asynchronous,
            arguments=handler.arguments,
            place=where,
            max_body_size=self.max_body_size,
            stream_body=self.stream_body,
            turbo=self.is_turbo,
            cache_ttl=self.cache_ttl,
        )
        return Served(endpoint, handler, self)

    def _check(self, handler: Handler, where: str) -> None:
        """RouteError for parameters that requests with these methods do not have."""
        places = {each.place for each in handler.inputs}
        bodyless = [method for method in self.methods if method in _BODYLESS]
        if "body" in places and bodyless:
            raise RouteError(
                f"Handler {where} takes a body, but serves {', '.join(bodyless)}, which has none. "
                "Use POST, PUT or PATCH, or take the values from the query."
            )
        if self.stream_body and "body" in places:
            raise RouteError(
                f"Handler {where} takes a body that is read and checked before it is called, and "
                "its route has stream_body=True. Leave one of them out."
            )
        if self.is_turbo and places & {"header", "cookie"}:
            raise RouteError(
                f"Handler {where} reads a header or a cookie, but its responses are cached for "
                "all requests with the same path and query. Use app.get."
            )


@dataclass(frozen=True)
class FolderRoute(Route):
    """A route for static files, which Rust serves. Its function is never called."""

    root: str
    cache_control: str | None
    precompressed: bool
    written_at: str
    kind = "http"

    @property
    def place(self) -> str:
        return f"the folder {self.root} ({self.written_at})"

    def _register(self, router: _core.Router, where: str) -> Hooks | None:
        folder = self.path.removesuffix("{path:path}")
        router.add_folder(
            [folder, self.path],
            self.root,
            cache_control=self.cache_control,
            precompressed=self.precompressed,
            place=where,
        )
        return None


@dataclass(frozen=True)
class WebSocketRoute(Route):
    """A route for WebSockets with a handler in Python."""

    config: WebSocketConfig
    kind = "websocket"

    def _register(self, router: _core.Router, where: str) -> Hooks | None:
        handler = bind_signature(
            self.function,
            subject="websocket",
            path=self.path,
            path_parameters=router.path_parameters(self.path),
            has_body=False,
        )
        if not handler.asynchronous:
            raise RouteError(
                f"WebSocket handler {where} must be async: write "
                f"`async def {getattr(self.function, '__name__', 'handler')}(ws): ...`."
            )
        if not handler.takes_subject:
            raise RouteError(
                f"WebSocket handler {where} does not take the WebSocket. Add a parameter "
                "called ws, or annotate one as WebSocket."
            )
        router.add_websocket(
            self.path,
            handler.call,
            arguments=handler.arguments,
            config=self.config,
            place=where,
        )
        return None


@dataclass(frozen=True)
class TurboRoute(Route):
    """A route for WebSockets that Rust serves."""

    response_prefix: str | None
    broadcast: str | None
    config: WebSocketConfig
    on_open: Hook | None
    on_close: Hook | None
    kind = "turbo"

    def _register(self, router: _core.Router, where: str) -> Hooks | None:
        handler = bind_signature(
            self.function,
            subject="request",
            path=self.path,
            path_parameters=router.path_parameters(self.path),
            has_body=False,
        )
        hooks = _hooks(self.on_open, self.on_close)
        router.add_turbo(
            self.path,
            response_prefix=self.response_prefix,
            broadcast=self.broadcast,
            config=self.config,
            admit=handler.call if handler.arguments else None,
            asynchronous=handler.asynchronous,
            arguments=handler.arguments,
            hooks=hooks,
            place=where,
        )
        return hooks


class Names:
    """The table of an application's routes by name, for `url_for`."""

    def __init__(self, parameters: Callable[[str], Mapping[str, str]]) -> None:
        """`parameters` returns the parameters of a path, by name."""
        self._parameters = parameters
        self._routes: dict[str, list[Route]] = {}

    def check(self, route: Route) -> None:
        """RouteError if the name is explicit and another function has it."""
        for other in self._routes.get(route.name, ()):
            if other.function is not route.function and (route.is_named or other.is_named):
                raise RouteError(
                    f"Two routes are named {route.name!r}: the first is for "
                    f"{other.place}, the second for {route.place}. "
                    "Give one of them another name."
                )

    def add(self, route: Route) -> None:
        """Adds a route that has been checked."""
        self._routes.setdefault(route.name, []).append(route)

    def find(self, name: str, values: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
        """The path of the route with this name, and the names of its parameters. If one function
        has several paths, it is the path with the most parameters that these values fill.

        RouteError if no route has the name, or routes of several functions."""
        routes = self._routes.get(name)
        if not routes:
            names = ", ".join(sorted(self._routes)) or "none yet"
            raise RouteError(f"url_for({name!r}): no route has this name. There are: {names}.")
        places = {route.place for route in routes}
        if len(places) > 1:
            raise RouteError(
                f"url_for({name!r}) could mean several routes: {', '.join(sorted(places))}. "
                'Give them names of their own, as in @app.get("/", name="home").'
            )
        paths = [(route.path, frozenset(self._parameters(route.path))) for route in routes]
        filled = [each for each in paths if each[1] <= values.keys()]
        return max(filled, key=lambda each: len(each[1])) if filled else paths[0]


def _hooks(on_open: Hook | None, on_close: Hook | None) -> Hooks | None:
    if on_open is None and on_close is None:
        return None
    from fanbus.routing.session_hooks import Hooks  # imports asyncio, which only a server needs

    return Hooks(on_open, on_close)


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Adds the name of the handler to an error of the router."""
    try:
        yield
    except RouteError:
        raise
    except ValueError as error:
        text = str(error)
        raise RouteError(text if where in text else f"Handler {where}: {text}") from None
