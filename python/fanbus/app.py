"""The application that declares routes, runs the server and publishes messages.

An application declares everything on one `Fanbus` object, before `run`. The workers are forked from
the process that holds this object.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from fanbus import _core
from fanbus.exceptions import FanbusError, RouteError
from fanbus.hints import add_to_application, run_during_test_import
from fanbus.openapi.settings import OpenAPI
from fanbus.parameters.signature import Handler, location
from fanbus.routing.application_options import (
    bus_name_of,
    compression_level_of,
    hosts_of,
    is_manager_factory,
    strings_of,
)
from fanbus.routing.decorators import check_body_size
from fanbus.routing.middleware import Layer, no_route, wrap
from fanbus.routing.router import Decorators
from fanbus.routing.routes import Kind, Names, Route, Served
from fanbus.runtime.application import HandlerCounts
from fanbus.runtime.application_bus import ApplicationBus
from fanbus.runtime.json_codec import checked

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fanbus.history import RetentionRule
    from fanbus.options.keywords import Keywords
    from fanbus.routing.session_hooks import Hooks
    from fanbus.runtime.application import Application, HostedApplication
    from fanbus.runtime.json_codec import JSON
    from fanbus.runtime.lifespan import Running
    from fanbus.runtime.thread_pool import Pool

__all__ = ["Fanbus"]

# The user's function, returned unchanged, so that decorators can be stacked.
_Callback = TypeVar("_Callback", bound=Callable[[], Any])


class Fanbus(Decorators, ApplicationBus):
    """A web application.

    ```python
    app = Fanbus()

    @app.get("/")
    def hello():
        return {"message": "Hello, World!"}

    app.run()
    ```
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        redirect_slashes: bool = True,
        compression: bool = False,
        compression_level: int | None = None,
        max_body_size: int | None = None,
        lifespan: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None,
        openapi: bool | OpenAPI = False,
        json: JSON | None = None,
        hosts: Iterable[str] | None = None,
    ) -> None:
        """`name` names the bus, together with the port: `Fanbus("chat")` on port 5000 opens
        `chat-5000`. By default it is the name of the module; `Fanbus(__name__)` is the same.

        `redirect_slashes`: an HTTP request that differs from a route only by a trailing slash is
        redirected to it with 307, so that the method and the body stay the same. False: 404.

        `compression`: HTTP responses of text, JSON and the like are compressed with zstd, brotli or
        gzip, if the client accepts that and the response has 1 KiB or more. Streams are compressed
        chunk by chunk. Event streams are not compressed, nor responses with a Content-Encoding or
        `Cache-Control: no-transform`. (WebSockets: `WebSocketConfig`.)

        `compression_level`: a level of zlib, from 1, the fastest, to 9, the smallest. For zstd and
        brotli, a level of about the same cost. None: 4.

        `max_body_size`: the maximum size of a request body in bytes, for routes without a limit of
        their own. Above it, the client gets 413 and the handler is not called. None: 16 MiB.

        `lifespan`: a function that takes the application and returns an asynchronous context
        manager, for example with `@contextlib.asynccontextmanager`. Each worker enters it before
        its first request and leaves it after its last one. A dict that it yields is added to
        `app.state`.

        `openapi`: serves the OpenAPI document of the HTTP routes at `/openapi.json`, and a page
        that shows it at `/docs`. `OpenAPI(...)` sets other paths and the texts of the document.

        `json`: the encoder of JSON responses and the decoder of `request.json()`, in each worker:
        a module or an object with `dumps` and `loads`, as in `json=orjson`. `dumps` gets
        `default=`, which converts dates, models and the like. None: responses use the encoder of
        Fanbus, and requests use Python's `json`, even if other libraries are installed.

        `hosts`: the host names of the application without ports, as in `["example.org",
        "*.example.org"]`. A request or a handshake with another `Host` gets 400. This prevents DNS
        rebinding: a foreign page cannot point its own name at this server and read the responses.
        None: all hosts; with `debug` on a loopback address only the hosts of this machine.
        """
        if name is None:
            name = sys._getframe(1).f_globals.get("__name__", "app")
        if not isinstance(name, str) or not name:
            raise FanbusError(
                f"Fanbus({name!r}): the name must be a non-empty string, as in Fanbus('chat')."
            )
        if lifespan is not None and not is_manager_factory(lifespan):
            raise FanbusError(
                "lifespan must be a function that takes the application and returns an async "
                "context manager: decorate it with @contextlib.asynccontextmanager, as in "
                "`async def lifespan(app): ...; yield; ...`."
            )
        check_body_size(max_body_size, "Fanbus()")
        super().__init__()
        self.name = bus_name_of(name)
        self._around = Layer()
        self._served: list[Served] = []
        self._has_cors = False
        self.state: dict[str, Any] = {}
        """Values of the application, shared by the handlers of one worker. Each worker has its own
        dict."""
        self._lifespan = lifespan
        self._on_startup: list[Callable[[], Any]] = []
        self._on_shutdown: list[Callable[[], Any]] = []
        self._router = _core.Router(
            redirect_slashes=redirect_slashes,
            compression=compression_level_of(compression, compression_level),
            max_body_size=max_body_size,
        )
        self._hooks: list[Hooks] = []
        self._names = Names(self._router.path_parameters)
        self._declared: dict[Kind, int] = {"http": 0, "websocket": 0, "turbo": 0}
        self._json = checked(json)
        self._hosts = None if hosts is None else hosts_of(hosts)
        self._limit_hosts(self._hosts)
        self._application: Application = _FanbusApplication(self)
        """The view of this object that a server uses."""
        self._openapi = OpenAPI.checked(openapi)
        if self._openapi is not None:
            from fanbus.openapi.served import routes  # here, so that `import fanbus` stays fast

            for route in routes(self._openapi, self.openapi):
                self._declare(route)

    def url_for(self, name: str, /, **values: Any) -> str:
        """The path of a route, with its parameters filled in and percent-encoded. With
        `--root-path`, the path starts with that prefix.

        `name` is the route's `name=`, or the name of its function. The names of the routers around
        it are its prefix, as in `admin.user`. Values without a parameter in the path become the
        query. A list becomes several values of one name; None is left out.

        `app.url_for("user", user_id=3, page=2)` is `/users/3?page=2`. Raises RouteError if no route
        has the name, if the values fit several routes of this name, or if a value is missing or not
        allowed in the path.
        """
        path, names = self._names.find(name, values)
        parameters = {key: str(value) for key, value in values.items() if key in names}
        query = {
            key: value for key, value in values.items() if key not in names and value is not None
        }
        try:
            url = _core.root_path() + self._router.url(path, parameters)
        except ValueError as error:
            raise RouteError(f"url_for({name!r}): {error}") from None
        return f"{url}?{urlencode(query, doseq=True)}" if query else url

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI 3.1 document of the HTTP routes that are declared so far. The caller may
        change it.

        Raises FanbusError if a type in an annotation has no schema.
        """
        from fanbus.openapi.document import document  # here, so that `import fanbus` stays fast

        return document(
            self.name,
            self._served,
            self._openapi or OpenAPI(),
            parameters=self._router.path_parameters,
            template=self._router.documented_path,
        )

    def on_startup(self, function: _Callback) -> _Callback:
        """A decorator: each worker calls the function before its first request.

        The function has no parameters and may be `async def`. It runs on the event loop, in the
        main thread. Several functions run in the order of their declaration. If one raises, the
        worker cannot start: the server exits with status 3 and the traceback.
        `timeout_worker_boot` limits the time.
        """
        self._add_callback("on_startup", function, self._on_startup)
        return function

    def on_shutdown(self, function: _Callback) -> _Callback:
        """A decorator: each worker calls the function after its last request.

        The function has no parameters and may be `async def`. Several functions run in the order of
        their declaration; `lifespan` ends after them. Their time is the rest of
        `timeout_graceful_shutdown`, at least one second. Their exceptions are logged. They are not
        called if the worker could not start, or is killed.
        """
        self._add_callback("on_shutdown", function, self._on_shutdown)
        return function

    def cors(
        self,
        *,
        origins: str | Iterable[str],
        methods: str | Iterable[str] = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"),
        headers: str | Iterable[str] | None = None,
        expose: str | Iterable[str] = (),
        credentials: bool = False,
        max_age: int = 600,
    ) -> None:
        """Allows pages of other origins to read the responses (CORS, the Fetch standard).

        `origins`: `"*"` for all, or a list of origins as browsers write them, such as
        `["https://example.com", "http://localhost:3000"]`. `methods` and `headers`: the methods and
        headers that their requests may have; `headers=None` allows every header. `expose`: the
        response headers that they may read. `credentials`: requests may have cookies; then no
        option may be `"*"`. `max_age`: seconds for which a browser may cache the preflight.

        The rules apply to every HTTP response: of handlers, files, streams and errors. Rust answers
        the preflights. (WebSockets: `WebSocketConfig(origins=)`.)

        Raises FanbusError for options that browsers would refuse, and for a second call.
        """
        if self._has_cors:
            raise FanbusError("app.cors was called twice. Pass all options in one call.")
        if not isinstance(max_age, int) or not 0 <= max_age < 2**31:
            raise FanbusError(
                f"cors: max_age must be a number of seconds, 0 or more, got {max_age!r}."
            )
        try:
            self._router.set_cors(
                origins=strings_of("origins", origins),
                credentials=bool(credentials),
                methods=strings_of("methods", methods),
                headers=None if headers is None else strings_of("headers", headers),
                expose=strings_of("expose", expose),
                max_age=max_age,
            )
        except ValueError as error:
            raise FanbusError(f"cors: {error}") from None
        self._has_cors = True

    def run(
        self, host: str | None = None, port: int | None = None, **options: Unpack[Keywords]
    ) -> None:
        """Serves until SIGINT (Ctrl+C) or SIGTERM, finishes the requests in flight, and returns.

        `host`: 127.0.0.1, the default, is this machine only, 0.0.0.0 every interface. `port`: 5000;
        0 picks a free one. `workers`: the number of processes, by default one per core that this
        process may use, or WEB_CONCURRENCY. `debug=True`: one worker, tracebacks in responses, and
        a line in the log for code that blocks the event loop; never in public. The other options
        are the options of `fanbus run`, with underscores (docs/howto/configuration.md). An option
        that is missing or None comes from the environment (FANBUS_PORT), from fanbus.toml, or is
        the default.

        `ssl_certfile`: serve https and wss with the certificate in this PEM file, followed by the
        chain to its issuer. `ssl_keyfile`: its private key, if that has a file of its own.
        `ssl_keyfile_password`: the password of an encrypted key. `ssl_ca_certs`: the certificate
        authorities; every client must present a certificate of one of them. None means
        FANBUS_SSL_CERTFILE and so on. Each worker reads the files when it starts.

        If the server cannot start, the process exits with a message on stderr. Status 1: the cause
        is on the machine. Status 2: an option is wrong.
        """
        from fanbus.server import serve  # here, so that `import fanbus` stays fast

        if serve.is_importing():
            return  # `fanbus run module:app` runs it, with its own options
        message = run_during_test_import(sys._getframe(1))
        if message is not None:
            raise FanbusError(message)
        serve.run_with(self._application, {"host": host, "port": port, **options})

    def _add_callback(self, decorator: str, function: Any, to: list[Callable[[], Any]]) -> None:
        if not callable(function):
            raise FanbusError(
                f"@app.{decorator} takes a function: write it without parentheses above the "
                f"function, as in `@app.{decorator}`."
            )
        with contextlib.suppress(ValueError):  # the function has no signature
            try:
                inspect.signature(function).bind()
            except TypeError:
                raise FanbusError(
                    f"{location(function)} is called by @app.{decorator} with nothing, but has "
                    "parameters without a default. Leave them out."
                ) from None
        if self._worker is not None:
            raise FanbusError(
                f"{location(function)} was added by @app.{decorator} while the server runs. "
                "Declare it before run."
            )
        to.append(function)

    def _change(self) -> Layer:
        if self._worker is not None:
            raise FanbusError(
                "Middleware and hooks must be declared before run, not while the server runs."
            )
        return self._around

    def _limit_hosts(self, hosts: list[str] | None) -> None:
        """Sets the hosts that requests may name. Raises FanbusError for an invalid one."""
        try:
            self._router.set_hosts(hosts)
        except ValueError as error:
            raise FanbusError(f"Fanbus(hosts=...): {error}") from None

    def _layers_of(self, served: Served) -> tuple[Layer, ...]:
        return tuple(each for each in (self._around, *served.route.arounds) if each)

    def _wrap_handlers(self, pool: Pool, new_hook_pool: Callable[[], Pool]) -> None:
        """Wraps each handler in its middleware. A worker calls it, since threads do not survive a
        fork."""
        for hooks in self._hooks:
            hooks.run_on(new_hook_pool())
        if self._around:
            arguments = (None, "status", "sentence", "allow")
            handler = Handler(no_route, asynchronous=False, arguments=arguments)
            call, is_async = wrap(handler, (self._around,), pool)
            self._router.set_fallback(call, is_async)
        for served in self._served:
            layers = self._layers_of(served)
            if layers:
                call, is_async = wrap(served.handler, layers, pool)
                is_cached = not any(layer.sees_requests() for layer in layers)
                self._router.wrap_endpoint(served.endpoint, call, is_async, keeps=is_cached)

    def _declare(self, route: Route) -> None:
        if self._worker is not None:
            raise RouteError(
                f"Handler {location(route.function)} was added while the server runs. Routes are "
                "declared before run."
            )
        self._names.check(route)
        registered = route.register(self._router)
        self._names.add(route)
        if isinstance(registered, Served):
            self._served.append(registered)
        elif registered is not None:
            self._hooks.append(registered)
        self._declared[route.kind] += 1

    def __repr__(self) -> str:
        return f"<Fanbus {self.name}: {len(self._router)} handlers>"


class _FanbusApplication:
    """The view of a `Fanbus` object that a server uses: an `Application`."""

    def __init__(self, app: Fanbus) -> None:
        self._app = app

    @property
    def name(self) -> str:
        return self._app.name

    @property
    def retention_rules(self) -> Sequence[RetentionRule]:
        return self._app._retention_rules

    def handler_counts(self) -> HandlerCounts:
        return HandlerCounts(**self._app._declared)

    def check(self) -> Sequence[str]:
        app = self._app
        if app._openapi is not None:
            app.openapi()
        return [
            f"The turbo route {served.route.path} has middleware or before_request around it, "
            "which see each request: its responses are not cached."
            for served in app._served
            if served.route.is_turbo
            and any(layer.sees_requests() for layer in app._layers_of(served))
        ]

    def host(
        self,
        *,
        middleware: Pool,
        new_hook_pool: Callable[[], Pool],
        default_hosts: list[str] | None,
    ) -> HostedApplication:
        app = self._app
        app._wrap_handlers(middleware, new_hook_pool)
        app._limit_hosts(default_hosts if app._hosts is None else app._hosts)
        return _HostedFanbus(app)


class _HostedFanbus:
    """A `Fanbus` object in one worker: a `HostedApplication`."""

    def __init__(self, app: Fanbus) -> None:
        self._app = app
        self.router = app._router
        self.json = app._json

    def attach(self, worker: _core.Worker, bus: _core.Bus) -> None:
        self._app._worker, self._app._bus = worker, bus

    def lifespan(self) -> Running:
        from fanbus.runtime.lifespan import Running  # imports asyncio, which only a server needs

        app = self._app
        manager = None if app._lifespan is None else app._lifespan(app)
        return Running(app.state, manager, app._on_startup, app._on_shutdown)

    async def finish(self) -> None:
        import asyncio  # here, so that `import fanbus` stays fast

        await asyncio.gather(*(hooks.finish() for hooks in self._app._hooks))

    def detach(self) -> None:
        self._app._worker = None


add_to_application(Fanbus)
