"""The Rust half of Fanbus. Not public: `fanbus` re-exports what users need."""

from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, final

__version__: str

def bind_listeners(host: str, port: int, count: int, backlog: int) -> tuple[int, list[int]]:
    """Binds `count` SO_REUSEPORT listeners on one port; returns the port and the descriptors.

    The descriptors are close-on-exec. Port 0 picks one. The first listener is bound exclusively,
    so that a port in use is an error even against another SO_REUSEPORT server.
    Raises OSError with its errno (EADDRINUSE, EACCES, EADDRNOTAVAIL, ENOENT for an unknown host).
    """

@final
class Bus:
    """Membership of this process in a named bus. A copy inherited by fork is inert."""

    @staticmethod
    def open(name: str, *, ring_bytes: int | None = None) -> Bus:
        """Creates the bus, or joins the one of that name. OSError, a sentence, if it cannot."""
    @property
    def name(self) -> str: ...
    def reap(self) -> int:
        """Cleans up after members that died, wakes all sleepers; returns how many had died."""
    def remove(self) -> None:
        """Unlinks the segment's name: a clean stop."""
    def close(self) -> None:
        """Leaves the bus. Twice is allowed."""

@final
class Router:
    """The routes of one application: pure data, made before the fork.

    `arguments` is what a handler is called with, in order: the name of a path parameter, or None
    for the request or the WebSocket. Each `add_` raises ValueError, with a sentence, for a bad
    path, an unknown converter, an argument that the path lacks, and a conflict (names both).
    """

    def __new__(cls) -> Router: ...
    def add_http(
        self,
        methods: Sequence[str],
        path: str,
        handler: Callable[..., Any],
        *,
        asynchronous: bool,
        arguments: Sequence[str | None],
    ) -> None: ...
    def add_websocket(
        self,
        path: str,
        handler: Callable[..., Any],
        *,
        arguments: Sequence[str | None],
        config: Any,
    ) -> None: ...
    def add_turbo(
        self,
        path: str,
        *,
        response_prefix: str | None,
        broadcast: str | None,
        config: Any,
        admit: Callable[..., Any] | None,
        asynchronous: bool,
        arguments: Sequence[str | None],
    ) -> None:
        """One of `response_prefix`, `broadcast`. `admit` is asked once per connection."""
    def path_parameters(self, path: str) -> list[str]: ...
    def __len__(self) -> int: ...

@final
class Worker:
    """One worker's Rust half: I/O thread, hub, mailbox."""

    def __new__(
        cls,
        router: Router,
        bus: Bus,
        listener: int,
        *,
        threads: int,
        debug: bool,
        on_error: Callable[[str, BaseException], None],
    ) -> Worker: ...
    def start(self, loop: AbstractEventLoop) -> None: ...
    def fileno(self) -> int:
        """Readable when `drain` has work: `loop.add_reader(worker.fileno(), worker.drain)`."""
    def drain(self) -> None: ...
    def publish(self, topic: str, message: str | bytes) -> int: ...
    def shut_down(self, grace: float, on_stopped: Callable[[], None]) -> None:
        """Stops accepting, closes WebSockets with 1012, finishes requests for `grace` seconds.

        `on_stopped` is called from `drain` when nothing is left.
        """

@final
class WebSocket:
    """One client's WebSocket. Handlers get it; it is never constructed by hand.

    Everything that sends hands over to Rust at once; the result need not be awaited, and awaiting
    it waits only while the client is too slow.
    """

    @property
    def id(self) -> int:
        """Unique among all connections of this server, in all workers."""
    @property
    def path_params(self) -> Mapping[str, Any]: ...
    @property
    def query(self) -> Mapping[str, str]: ...
    @property
    def headers(self) -> Mapping[str, str]:
        """Of the handshake; names in lower case."""
    @property
    def cookies(self) -> Mapping[str, str]: ...
    @property
    def client(self) -> tuple[str, int] | None:
        """Address and port of the peer."""
    @property
    def state(self) -> dict[str, Any]:
        """Yours: kept as long as the connection."""
    @property
    def close_code(self) -> int | None:
        """None while open; else the code of the close (RFC 6455 section 7.4)."""
    @property
    def close_reason(self) -> str | None: ...
    def accept(self, subprotocol: str | None = None) -> Awaitable[None]:
        """Answers the handshake. The first use of the WebSocket implies it."""
    def reject(self, status: int = 403) -> Awaitable[None]:
        """Refuses the handshake with an HTTP status, instead of accepting it."""
    def send(self, message: str | bytes) -> Awaitable[None]:
        """Sends one message to this client. WebSocketClosed if it is gone."""
    def receive(self) -> Awaitable[str | bytes]:
        """The next message. WebSocketClosed when there is none any more."""
    def __aiter__(self) -> WebSocket: ...
    def __anext__(self) -> Awaitable[str | bytes]: ...
    def close(self, code: int = 1000, reason: str = "") -> Awaitable[None]:
        """Closes with a code and a reason of at most 123 bytes (RFC 6455 section 5.5.1)."""
    def subscribe(self, topic: str) -> None:
        """From here on this client gets what is published to the topic, in any worker."""
    def unsubscribe(self, topic: str) -> None: ...
    def publish(self, topic: str, message: str | bytes) -> int:
        """To everybody on the topic except this client. Returns the offset on the bus."""

@final
class Request:
    """One HTTP request. Handlers get it; it is never constructed by hand.

    `json`, `text` and `bytes` give the value in a synchronous handler, and something to await in
    an asynchronous one.
    """

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def path_params(self) -> Mapping[str, Any]: ...
    @property
    def query(self) -> Mapping[str, str]: ...
    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""
    @property
    def cookies(self) -> Mapping[str, str]: ...
    @property
    def client(self) -> tuple[str, int] | None: ...
    def json(self) -> Any:
        """The body, parsed. HTTPError 400 if it is not JSON."""
    def text(self) -> Any:
        """The body as str (UTF-8)."""
    def bytes(self) -> Any:
        """The body."""
