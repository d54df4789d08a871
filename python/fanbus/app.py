"""The application: its routes, and the way to run and to publish.

Everything that is served is declared on one `Fanbus` object, before `run`; the workers are forked
from it and share it from then on.
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
from fanbus.hints import add_to_application, started_by_tests
from fanbus.history import History, RetentionRule
from fanbus.openapi.settings import OpenAPI
from fanbus.parameters.signature import Handler, location
from fanbus.routing.application_options import (
    bus_name_of,
    compression_level_of,
    hosts_of,
    is_manager_factory,
    strings_of,
)
from fanbus.routing.middleware import Layer, missed, wrap
from fanbus.routing.router import Decorators, check_body_size
from fanbus.routing.routes import Kind, Names, Route, Served
from fanbus.runtime.application import HandlerCounts
from fanbus.runtime.json_codec import checked

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fanbus.options.keywords import Keywords
    from fanbus.routing.session_hooks import Hooks
    from fanbus.runtime.application import Application, HostedApplication
    from fanbus.runtime.json_codec import JSON
    from fanbus.runtime.lifespan import Running
    from fanbus.runtime.thread_pool import Pool

__all__ = ["Fanbus"]

# The user's function, given back unchanged, so that decorators can be stacked.
_Callback = TypeVar("_Callback", bound=Callable[[], Any])


class Fanbus(Decorators):
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

        `redirect_slashes`: an HTTP request that misses a route only by its trailing slash is sent
        there with 307, which keeps method and body. False: it gets 404.

        `compression`: HTTP responses of 1 KiB or more that are text, JSON or the like are sent as
        zstd, brotli or gzip to clients that take it, and so are streams, piece by piece; not event
        streams, and not what has a Content-Encoding or `Cache-Control: no-transform`. (WebSockets:
        `WebSocketConfig`.)

        `compression_level`: from 1, the quickest, to 9, which gives the fewest bytes, as zlib has
        them; for zstd and brotli, levels that cost about the same. None: 4.

        `max_body_size`: bytes that the body of a request may have, where its route does not say
        (413 above it, before the handler is called); None: 16 MiB.

        `lifespan`: a function that takes the application and gives an asynchronous context manager,
        as one with `@contextlib.asynccontextmanager` does. Each worker enters it before its first
        request and leaves it after its last one. A dict that it yields goes into `app.state`.

        `openapi`: serve the OpenAPI document of the HTTP routes at `/openapi.json`, and a page that
        shows it at `/docs`; `OpenAPI(...)` says more of it, and other paths.

        `json`: what writes the JSON of answers, and reads it for `request.json()`, in a worker: a
        module or an object with `dumps` and `loads`, as `json=orjson`. `dumps` gets
        `default=`, which knows dates, models and the like. None: Fanbus's own for writing, and
        Python's for reading, whatever else is installed.

        `hosts`: names under which the application is reached, as `["example.org",
        "*.example.org"]`, without ports; a request or a handshake whose `Host` is another one gets
        400. So a page of a stranger cannot have its own name resolve to this server and read what
        it answers (DNS rebinding). None: all hosts, but with `debug` on a loopback address only
        those of this machine.
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
        self.name = bus_name_of(name)
        self._around = Layer()
        self._served: list[Served] = []
        self._has_cors = False
        self.state: dict[str, Any] = {}
        """Yours: what the handlers of one worker share. Each worker has its own."""
        self._lifespan = lifespan
        self._on_startup: list[Callable[[], Any]] = []
        self._on_shutdown: list[Callable[[], Any]] = []
        self._router = _core.Router(
            redirect_slashes=redirect_slashes,
            compression=compression_level_of(compression, compression_level),
            max_body_size=max_body_size,
        )
        self._worker: _core.Worker | None = None
        self._bus: _core.Bus | None = None
        self._retention_rules: list[RetentionRule] = []
        self._hooks: list[Hooks] = []
        self._names = Names(self._router.path_parameters)
        self._declared: dict[Kind, int] = {"http": 0, "websocket": 0, "turbo": 0}
        self._json = checked(json)
        self._hosts = None if hosts is None else hosts_of(hosts)
        self._limit_hosts(self._hosts)
        self._application: Application = _FanbusApplication(self)
        """What a server gets to see of this object."""
        self._openapi = OpenAPI.checked(openapi)
        if self._openapi is not None:
            from fanbus.openapi.served import routes  # here, so that `import fanbus` stays quick

            for route in routes(self._openapi, self.openapi):
                self._declare(route)

    def url_for(self, name: str, /, **values: Any) -> str:
        """The path of a route, with its parameters filled in and percent-encoded. In a server with
        `--root-path`, that comes before it.

        `name` is the route's `name=`, else its function's, with the names of the routers around it
        before it, as in `admin.user`. Values that the path has no parameter for become the query; a
        list becomes several values of one name, None is left out.

        `app.url_for("user", user_id=3, page=2)` is `/users/3?page=2`. Raises RouteError if no route
        has the name, if several have it that these values fit, or if a value is missing or cannot
        stand in the path.
        """
        path, names = self._names.find(name, values)
        texts = {key: str(value) for key, value in values.items() if key in names}
        rest = {
            key: value for key, value in values.items() if key not in names and value is not None
        }
        try:
            url = _core.root_path() + self._router.url(path, texts)
        except ValueError as error:
            raise RouteError(f"url_for({name!r}): {error}") from None
        return f"{url}?{urlencode(rest, doseq=True)}" if rest else url

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI 3.1 document of the HTTP routes that are declared so far. Yours to change.

        Raises FanbusError if a type in an annotation has no schema.
        """
        from fanbus.openapi.document import document  # here, so that `import fanbus` stays quick

        return document(
            self.name,
            self._served,
            self._openapi or OpenAPI(),
            parameters=self._router.path_parameters,
            template=self._router.documented_path,
        )

    def on_startup(self, function: _Callback) -> _Callback:
        """Has the function called in each worker before its first request; a decorator.

        It takes nothing, and may be `async def`. Both run on the event loop, in the main thread;
        several run in their order. If one raises, the worker cannot start: the server ends with
        status 3 and the traceback. `timeout_worker_boot` limits the time.
        """
        self._add_callback("on_startup", function, self._on_startup)
        return function

    def on_shutdown(self, function: _Callback) -> _Callback:
        """Has the function called in each worker after its last request; a decorator.

        It takes nothing, and may be `async def`. Several run in their order, and then `lifespan`
        ends. They have what is left of `timeout_graceful_shutdown`, and at least one second. What
        they raise is logged. Not called if the worker could not start, or is killed.
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
        """Lets pages of other origins read what is answered here (CORS, the Fetch standard).

        `origins`: `"*"` for all, or a list of origins as browsers write them, such as
        `["https://example.com", "http://localhost:3000"]`. `methods` and `headers`: what their
        requests may have; None: every header that they ask for. `expose`: headers of answers that
        they may read. `credentials`: requests may bring cookies; then nothing may be `"*"`.
        `max_age`: seconds for which a browser need not ask again.

        It holds for everything that is answered over HTTP: handlers, files, streams, errors.
        Preflights are answered in Rust. (WebSockets: `WebSocketConfig(origins=)`.)

        Raises FanbusError for what browsers would refuse, and for a second call.
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

    def topic(self, pattern: str, *, history: int, seconds: int | None = None) -> None:
        """Keeps what is published to a topic, for those who come later.

        `pattern` is a topic's name, in which `{anything}` stands for one or more characters:
        `app.topic("room:{room}", history=100)` keeps at least the newest 100 messages of each
        room, whatever else goes over the bus. `seconds`: messages older than that are not given
        any more (at most 136 years); None: however old they are.

        What is kept outlives workers, and a restart of the server as long as the machine is on. All
        of it has its place in `history_size` (8 MiB): when that is full, the oldest go, and who
        asks is told. `ws.subscribe(topic, last=50)`, `app.history(topic, last=50)` and
        `Bus.history` read it.

        Raises FanbusError if the pattern or a number cannot be.
        """
        rule = RetentionRule.checked(pattern, history, seconds)
        if self._bus is not None:  # the server runs already
            self._bus.retain(rule.pattern, rule.history, rule.seconds)
        self._retention_rules.append(rule)

    def history(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: int | None = None,
        epoch: int | None = None,
    ) -> History:
        """What was published to a topic: the `last` so many messages, or all `since` an offset.

        Any thread may call it. See `Bus.history`.
        """
        bus = self._bus
        if bus is None:
            raise FanbusError(
                f"history({topic!r}) needs a running server: call it from a handler. "
                "Elsewhere, open the bus by its name: Bus.open(name).history(...)."
            )
        found = bus.history(topic, last=last, since=since, epoch=epoch)
        return History(*found, epoch=bus.epoch)

    def publish(self, topic: str, message: str | bytes | bytearray | memoryview) -> int:
        """Sends a message to everybody who is subscribed to the topic, in all workers.

        Any thread may call it. Returns the message's offset: its place in the one order that all
        clients see. `topic` is 1 to 255 bytes of UTF-8 without control characters; a message is
        at most a quarter of the bus's ring (2 MiB by default); ValueError above that.

        Usually takes a microsecond. Workers deliver more slowly than a loop publishes: when one
        that comes on is an eighth of the ring or of the log behind, `publish` waits for it, so that
        a burst of any length reaches everybody. It waits for five seconds at most, and for a worker
        that stands still (it is stopped) a tenth of a second, once; such a worker is overtaken, and
        its clients are told. Other threads run meanwhile; the event loop does not, if an `async
        def` publishes.
        """
        worker = self._worker
        if worker is None:
            raise FanbusError(
                f"publish({topic!r}) needs a running server: call it from a handler, or from a "
                "task or thread that a handler started."
            )
        return worker.publish(topic, message)

    def run(
        self, host: str | None = None, port: int | None = None, **options: Unpack[Keywords]
    ) -> None:
        """Serves until SIGINT (Ctrl+C) or SIGTERM, then finishes what is in flight and returns.

        `host`: 127.0.0.1, the default, is this machine only, 0.0.0.0 every interface. `port`: 5000;
        0 picks a free one. `workers`: processes; by default one per core that this process may
        use, or WEB_CONCURRENCY. `debug=True`: one worker, tracebacks in responses, and a line in
        the log for what blocks the event loop; never in public. All other options are those of
        `fanbus run`, with underscores (docs/howto/configuration.md). What is not given, or None,
        comes from the environment (FANBUS_PORT), from fanbus.toml, or is the default.

        `ssl_certfile`: serve https and wss, with the certificate in this PEM file (behind it those
        that lead to its issuer). `ssl_keyfile`: its private key, if that is in a file of its own.
        `ssl_keyfile_password`: what the key is encrypted with, if it is. `ssl_ca_certs`: the
        authorities of which every client must have a certificate. None means FANBUS_SSL_CERTFILE
        and so on. Each worker reads the files when it starts.

        If the server cannot start, the process ends with a sentence on stderr, and status 1
        (what was found on the machine) or 2 (what was asked for).
        """
        from fanbus.server import serve  # here, so that `import fanbus` stays quick

        if serve.is_importing():
            return  # `fanbus run module:app` runs it, with its own options
        mistake = started_by_tests(sys._getframe(1))
        if mistake is not None:
            raise FanbusError(mistake)
        serve.run_with(self._application, {"host": host, "port": port, **options})

    def _add_callback(self, decorator: str, function: Any, to: list[Callable[[], Any]]) -> None:
        if not callable(function):
            raise FanbusError(
                f"@app.{decorator} takes a function: write it without parentheses above the "
                f"function, as in `@app.{decorator}`."
            )
        with contextlib.suppress(ValueError):  # no signature to be seen
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
        """Sets the hosts that requests may name. FanbusError for an invalid one."""
        try:
            self._router.set_hosts(hosts)
        except ValueError as error:
            raise FanbusError(f"Fanbus(hosts=...): {error}") from None

    def _layers_of(self, served: Served) -> tuple[Layer, ...]:
        return tuple(each for each in (self._around, *served.route.arounds) if each)

    def _wrap_handlers(self, pool: Pool, new_hook_pool: Callable[[], Pool]) -> None:
        """Wraps each handler in its middleware. Called in a worker, where the threads are."""
        for hooks in self._hooks:
            hooks.run_on(new_hook_pool())
        if self._around:
            arguments = (None, "status", "sentence", "allow")
            handler = Handler(missed, asynchronous=False, arguments=arguments)
            call, is_async = wrap(handler, (self._around,), pool)
            self._router.set_fallback(call, is_async)
        for served in self._served:
            layers = self._layers_of(served)
            if layers:
                call, is_async = wrap(served.handler, layers, pool)
                keeps = not any(layer.sees_requests() for layer in layers)
                self._router.wrap_endpoint(served.endpoint, call, is_async, keeps=keeps)

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
    """A `Fanbus` object as a server sees it (`fanbus.runtime.application`)."""

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
    """A `Fanbus` object in one worker."""

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
        import asyncio  # here, so that `import fanbus` stays quick

        await asyncio.gather(*(hooks.finish() for hooks in self._app._hooks))

    def detach(self) -> None:
        self._app._worker = None


add_to_application(Fanbus)
