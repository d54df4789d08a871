"""The application: its routes, and the way to run and to publish.

Everything that is served is declared on one `Fanbus` object, before `run`; the workers are forked
from it and share it from then on.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fanbus import _core
from fanbus.exceptions import FanbusError, RouteError
from fanbus.handlers import examine, location
from fanbus.history import History, Kept
from fanbus.websocket import WebSocketConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Unpack

    from fanbus.banner import Counts
    from fanbus.hooks import Hook, Hooks
    from fanbus.options.keywords import Keywords

__all__ = ["Fanbus"]

# The user's function, given back unchanged, so that decorators can be stacked.
_Function = TypeVar("_Function", bound=Callable[..., Any])

_METHOD = re.compile(r"[A-Z][A-Z-]*")
_BUS_NAME_FORBIDDEN = re.compile(r"[^A-Za-z0-9_.-]+")


class Fanbus:
    """A web application.

    ```python
    app = Fanbus()

    @app.get("/")
    def hello():
        return {"message": "Hello, World!"}

    app.run()
    ```
    """

    def __init__(self, name: str | None = None) -> None:
        """`name` names the bus, together with the port: `Fanbus("chat")` on port 5000 opens
        `chat-5000`. By default it is the name of the module; `Fanbus(__name__)` is the same.
        """
        if name is None:
            name = sys._getframe(1).f_globals.get("__name__", "app")
        if not isinstance(name, str) or not name:
            raise FanbusError(
                f"Fanbus({name!r}): the name is a text that is not empty, as in Fanbus('chat')."
            )
        self.name = _readable_name(name)
        self._router = _core.Router()
        self._worker: _core.Worker | None = None
        self._bus: _core.Bus | None = None
        self._kept: list[Kept] = []
        self._hooks: list[Hooks] = []
        self._http = self._websockets = self._turbo = 0

    def route(
        self, path: str, *, methods: Iterable[str] = ("GET",)
    ) -> Callable[[_Function], _Function]:
        """Serves HTTP requests to a path, by default GET (which answers HEAD too).

        `path` may have parameters: `/users/{user_id}`, `/users/{user_id:int}` or
        `/users/<int:user_id>`. The handler takes those it wants by name, and the request as a
        parameter called `request` or annotated as `Request`. It may be `async def` or `def`; a
        `def` runs on a thread and may block. It returns dict or list (JSON), str (text), bytes
        or a `Response`.

        Raises RouteError if the path or the handler's signature cannot work.
        """
        _check_path(path, "route")
        if isinstance(methods, str):
            raise RouteError(f'methods={methods!r} is one text: write methods=["{methods}"].')
        verbs = [_verb(method, path) for method in methods]
        if not verbs:
            raise RouteError(f'The route "{path}" has no methods: write methods=["GET"].')

        def decorate(function: _Function) -> _Function:
            where = self._where(function)
            with _named(where):
                handler = examine(
                    function,
                    subject="request",
                    path=path,
                    path_parameters=self._router.path_parameters(path),
                )
                self._router.add_http(
                    verbs,
                    path,
                    handler.call,
                    asynchronous=handler.asynchronous,
                    arguments=handler.arguments,
                )
            self._http += 1
            return function

        return decorate

    def get(self, path: str) -> Callable[[_Function], _Function]:
        """`route` for GET and HEAD."""
        return self.route(path, methods=("GET",))

    def post(self, path: str) -> Callable[[_Function], _Function]:
        """`route` for POST."""
        return self.route(path, methods=("POST",))

    def put(self, path: str) -> Callable[[_Function], _Function]:
        """`route` for PUT."""
        return self.route(path, methods=("PUT",))

    def patch(self, path: str) -> Callable[[_Function], _Function]:
        """`route` for PATCH."""
        return self.route(path, methods=("PATCH",))

    def delete(self, path: str) -> Callable[[_Function], _Function]:
        """`route` for DELETE."""
        return self.route(path, methods=("DELETE",))

    def websocket(
        self, path: str, *, config: WebSocketConfig | None = None
    ) -> Callable[[_Function], _Function]:
        """Serves WebSockets on a path: the handler is called once per connection.

        It is `async def`, and takes the `WebSocket` as a parameter called `ws` or `websocket`, or
        annotated as such, and path parameters by name. When it returns, the connection is closed
        with 1000; when it raises, with 1011.

        Raises RouteError if the path or the handler's signature cannot work.
        """
        _check_path(path, "websocket")
        config = _checked_config(config, path)

        def decorate(function: _Function) -> _Function:
            where = self._where(function)
            with _named(where):
                handler = examine(
                    function,
                    subject="websocket",
                    path=path,
                    path_parameters=self._router.path_parameters(path),
                )
                if not handler.asynchronous:
                    raise RouteError(
                        f"WebSocket handler {where} must be async: write "
                        f"`async def {getattr(function, '__name__', 'handler')}(ws): ...`."
                    )
                if None not in handler.arguments:
                    raise RouteError(
                        f"WebSocket handler {where} does not take the WebSocket. Add a parameter "
                        "called ws, or annotate one as WebSocket."
                    )
                self._router.add_websocket(
                    path, handler.call, arguments=handler.arguments, config=config
                )
            self._websockets += 1
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
    ) -> Callable[[_Function], _Function]:
        """Serves WebSockets on a path without Python: what a client sends is answered in Rust.

        Exactly one of the two says how. `response_prefix="Echo: "` sends each message back with
        the prefix before it. `broadcast="room:{room}"` publishes it to the topic, with path
        parameters filled in, and subscribes every client to it.

        The function is not called, unless it has parameters (the request, path parameters): then
        it is asked once per connection, and refuses it by returning False or raising HTTPError.

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
                'one: response_prefix="" to echo, or broadcast="topic" to relay to everybody.'
            )
        for option, value in (("response_prefix", response_prefix), ("broadcast", broadcast)):
            if value is not None and not isinstance(value, str):
                raise RouteError(f'The turbo route "{path}": {option} is a text, not {value!r}.')

        for option, hook in (("on_open", on_open), ("on_close", on_close)):
            if hook is not None and not callable(hook):
                raise RouteError(
                    f'The turbo route "{path}": {option} is a function that takes the session, '
                    f"not {hook!r}."
                )

        def decorate(function: _Function) -> _Function:
            where = self._where(function)
            hooks = _hooks(on_open, on_close)
            with _named(where):
                handler = examine(
                    function,
                    subject="request",
                    path=path,
                    path_parameters=self._router.path_parameters(path),
                )
                self._router.add_turbo(
                    path,
                    response_prefix=response_prefix,
                    broadcast=broadcast,
                    config=config,
                    admit=handler.call if handler.arguments else None,
                    asynchronous=handler.asynchronous,
                    arguments=handler.arguments,
                    hooks=hooks,
                )
            if hooks is not None:
                self._hooks.append(hooks)
            self._turbo += 1
            return function

        return decorate

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
        use, or WEB_CONCURRENCY. `debug=True`: one worker, and tracebacks in responses; never in
        public. All other options are those of `fanbus run`, with underscores
        (docs/howto/configuration.md). What is not given, or None, comes from the environment
        (FANBUS_PORT), from fanbus.toml, or is the default.

        `ssl_certfile`: serve https and wss, with the certificate in this PEM file (behind it those
        that lead to its issuer). `ssl_keyfile`: its private key, if that is in a file of its own.
        `ssl_keyfile_password`: what the key is encrypted with, if it is. `ssl_ca_certs`: the
        authorities of which every client must have a certificate. None means FANBUS_SSL_CERTFILE
        and so on. Each worker reads the files when it starts.

        If the server cannot start, the process ends with a sentence on stderr, and status 1
        (what was found on the machine) or 2 (what was asked for).
        """
        from fanbus import server  # here, so that `import fanbus` stays quick

        if server.is_importing():
            return  # `fanbus run module:app` runs it, with its own options
        server.run_with(self, {"host": host, "port": port, **options})

    def _counts(self) -> Counts:
        from fanbus.banner import Counts

        return Counts(http=self._http, websocket=self._websockets, turbo=self._turbo)

    def _where(self, function: Callable[..., Any]) -> str:
        """The handler's place; RouteError if it comes too late."""
        where = location(function)
        if self._worker is not None:
            raise RouteError(
                f"Handler {where} was added while the server runs. Routes are declared before run."
            )
        return where

    def __repr__(self) -> str:
        return f"<Fanbus {self.name}: {len(self._router)} handlers>"


def _readable_name(name: str) -> str:
    """A name that can be part of a bus's name; the script's own for `__main__`."""
    if name == "__main__":
        main = getattr(sys.modules.get("__main__"), "__file__", None)
        name = Path(main).stem if main else "app"
    return _BUS_NAME_FORBIDDEN.sub("-", name).strip("-.")[:100] or "app"


def _check_path(path: Any, decorator: str) -> None:
    if callable(path):
        raise RouteError(
            f"@app.{decorator} on {location(path)} has no path: "
            f'write @app.{decorator}("/{getattr(path, "__name__", "path")}").'
        )
    if not isinstance(path, str):
        raise RouteError(f'@app.{decorator}: the path is a text such as "/", not {path!r}.')


def _verb(method: Any, path: str) -> str:
    if not isinstance(method, str) or not _METHOD.fullmatch(method.upper()):
        raise RouteError(f'The route "{path}": {method!r} is not an HTTP method such as "POST".')
    return method.upper()


def _hooks(on_open: Hook | None, on_close: Hook | None) -> Hooks | None:
    if on_open is None and on_close is None:
        return None
    from fanbus.hooks import Hooks  # brings asyncio, which only a server needs

    return Hooks(on_open, on_close)


def _checked_config(config: Any, path: str) -> WebSocketConfig:
    if config is None:
        return WebSocketConfig()
    if not isinstance(config, WebSocketConfig):
        raise RouteError(
            f'The route "{path}": config is a WebSocketConfig, not {type(config).__name__}. '
            "Write config=WebSocketConfig(max_message_size=65536)."
        )
    return config


@contextmanager
def _named(where: str) -> Iterator[None]:
    """What the router refuses becomes an error that names the handler."""
    try:
        yield
    except RouteError:
        raise
    except ValueError as error:
        text = str(error)
        raise RouteError(text if where in text else f"Handler {where}: {text}") from None
