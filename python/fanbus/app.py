"""The application: its routes, and the way to run and to publish.

Everything that is served is declared on one `Fanbus` object, before `run`; the workers are forked
from it and share it from then on.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from fanbus import _core
from fanbus.exceptions import FanbusError, RouteError
from fanbus.hints import add_to_application, started_by_tests
from fanbus.history import History, Kept
from fanbus.openapi.settings import OpenAPI
from fanbus.parameters.signature import Handler, location
from fanbus.routing.middleware import Layer, missed, wrap
from fanbus.routing.router import Decorators, check_body_size
from fanbus.routing.routes import Kind, Names, Route, Served
from fanbus.runtime.json_codec import checked

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fanbus.options.keywords import Keywords
    from fanbus.routing.session_hooks import Hooks
    from fanbus.runtime.json_codec import JSON
    from fanbus.runtime.lifespan import Running
    from fanbus.runtime.thread_pool import Pool
    from fanbus.server.banner import Counts

__all__ = ["Fanbus"]

# The user's function, given back unchanged, so that decorators can be stacked.
_Callback = TypeVar("_Callback", bound=Callable[[], Any])

# A bus's name has 64 bytes at most, and ends with the server's place: `-65535`, `-uds-01234567`.
_MOST_OF_BUS_NAME = 64 - 13
_DEFAULT_LEVEL = 4
_HIGHEST_LEVEL = 9
_BUS_NAME_FORBIDDEN = re.compile(r"[^A-Za-z0-9_.-]+")


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
        self.name = _readable_name(name)
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
            compression=_level(compression, compression_level),
            max_body_size=max_body_size,
        )
        self._worker: _core.Worker | None = None
        self._bus: _core.Bus | None = None
        self._kept: list[Kept] = []
        self._hooks: list[Hooks] = []
        self._names = Names(self._router.path_parameters)
        self._declared: dict[Kind, int] = {"http": 0, "websocket": 0, "turbo": 0}
        self._json = checked(json)
        self._hosts = None if hosts is None else _hosts(hosts)
        self._serve_hosts(self._hosts)
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
                origins=_texts("origins", origins),
                credentials=bool(credentials),
                methods=_texts("methods", methods),
                headers=None if headers is None else _texts("headers", headers),
                expose=_texts("expose", expose),
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
        kept = Kept.checked(pattern, history, seconds)
        if self._bus is not None:  # the server runs already
            self._bus.retain(kept.pattern, kept.history, kept.seconds)
        self._kept.append(kept)

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
        serve.run_with(self, {"host": host, "port": port, **options})

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

    def _seal(self, pool: Pool, pool_for_hooks: Callable[[], Pool]) -> None:
        """Puts around each handler what was declared. In the worker, once it is known."""
        for hooks in self._hooks:
            hooks.run_on(pool_for_hooks())
        if self._around:
            arguments = (None, "status", "sentence", "allow")
            handler = Handler(missed, asynchronous=False, arguments=arguments)
            call, is_async = wrap(handler, (self._around,), pool)
            self._router.set_fallback(call, is_async)
        for served in self._served:
            arounds = self._arounds_of(served)
            if arounds:
                call, is_async = wrap(served.handler, arounds, pool)
                keeps = not any(around.sees_requests() for around in arounds)
                self._router.surround(served.endpoint, call, is_async, keeps=keeps)

    def _arounds_of(self, served: Served) -> tuple[Layer, ...]:
        return tuple(each for each in (self._around, *served.route.arounds) if each)

    def _serve_hosts(self, hosts: list[str] | None) -> None:
        """The hosts that requests may name. FanbusError for what is not one."""
        try:
            self._router.set_hosts(hosts)
        except ValueError as error:
            raise FanbusError(f"Fanbus(hosts=...): {error}") from None

    def _not_kept(self) -> list[str]:
        """Paths of turbo routes whose answers are not kept, because of what is around them."""
        return [
            served.route.path
            for served in self._served
            if served.route.is_turbo
            and any(around.sees_requests() for around in self._arounds_of(served))
        ]

    def _begins(self) -> Running:
        """What a worker starts before its first request."""
        from fanbus.runtime.lifespan import Running  # brings asyncio, which only a server needs

        manager = None if self._lifespan is None else self._lifespan(self)
        return Running(self.state, manager, self._on_startup, self._on_shutdown)

    def _counts(self) -> Counts:
        from fanbus.server.banner import Counts

        return Counts(**self._declared)

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


add_to_application(Fanbus)


def _texts(option: str, given: str | Iterable[str]) -> list[str]:
    """A list of texts; one alone is a list of one."""
    texts = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(each, str) for each in texts):
        raise FanbusError(f"cors: {option} must be a list of strings, got {given!r}.")
    if option in ("origins", "methods") and not texts:
        raise FanbusError(f"cors: {option} is empty: nothing would be allowed.")
    return texts


def _hosts(given: Iterable[str]) -> list[str]:
    hosts = [] if isinstance(given, str) else list(given)
    if not hosts or not all(isinstance(host, str) for host in hosts):
        raise FanbusError(
            f"Fanbus(hosts={given!r}): hosts must be a list of names, as in "
            'hosts=["example.org", "*.example.org"].'
        )
    return hosts


def is_manager_factory(lifespan: Any) -> bool:
    """Whether it can be called to give a context manager, as far as it can be seen."""
    try:
        inspect.signature(lifespan).bind(None)
    except (TypeError, ValueError):
        return False
    bare = (
        inspect.isasyncgenfunction,
        inspect.isgeneratorfunction,
        inspect.iscoroutinefunction,
    )
    return not any(is_bare(lifespan) for is_bare in bare)


def _level(compression: bool, level: int | None) -> int | None:
    """The level for the core. None: responses are sent as they are."""
    if level is None:
        return _DEFAULT_LEVEL if compression else None
    if type(level) is not int or not 1 <= level <= _HIGHEST_LEVEL:
        raise FanbusError(
            f"compression_level must be a number from 1 to {_HIGHEST_LEVEL}, got {level!r}. "
            "Leave it out for the default."
        )
    if not compression:
        raise FanbusError(
            "compression_level has no effect without compression=True: add that, or leave the "
            "level out."
        )
    return level


def _readable_name(name: str) -> str:
    """A name that can be part of a bus's name; the script's own for `__main__`."""
    if name == "__main__":
        main = getattr(sys.modules.get("__main__"), "__file__", None)
        name = Path(main).stem if main else "app"
    return _BUS_NAME_FORBIDDEN.sub("-", name).strip("-.")[:_MOST_OF_BUS_NAME] or "app"
