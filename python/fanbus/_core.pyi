"""The Rust half of Fanbus. Not public: `fanbus` re-exports what users need."""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, final, overload, type_check_only

from typing_extensions import Buffer

from fanbus.config import Settings
from fanbus.responses import Response
from fanbus.runtime.worker import WorkerResources

__all__ = [
    "AccessLog",
    "Bell",
    "Bus",
    "Lane",
    "MultiDict",
    "Part",
    "Record",
    "Replay",
    "Request",
    "Router",
    "Session",
    "Sink",
    "StreamEnd",
    "Subscription",
    "Threads",
    "Tls",
    "Upload",
    "WebSocket",
    "Withheld",
    "Worker",
    "__version__",
    "answer_json",
    "as_response",
    "bind_listeners",
    "buses",
    "check_pattern",
    "counters",
    "die_with_parent",
    "give_back_memory",
    "inspect_bus",
    "json_body",
    "keep_free_memory",
    "open_descriptors",
    "remove_bus",
    "root_path",
    "to_json",
]

_T = TypeVar("_T")

_AccessNote: TypeAlias = tuple[
    str, float, float, tuple[str, int] | None, bool, str, str, str, int, int | None, str, str
]
"""What ("request", "opened", "closed"), when (seconds since 1970), how long (seconds), client,
secure, method, target, version, status, bytes, referer, agent."""

__version__: str

def bind_listeners(
    host: str, port: int, count: int, backlog: int, *, shared: bool = False
) -> tuple[int, list[int]]:
    """Binds `count` SO_REUSEPORT listeners on one port; returns the port and the descriptors.

    The descriptors are close-on-exec. Port 0 picks one. The first listener is bound exclusively,
    so that a port in use is an error even against another SO_REUSEPORT server, unless it is to be
    `shared`.
    Raises OSError with its errno (EADDRINUSE, EACCES, EADDRNOTAVAIL, ENOENT for an unknown host).
    """

def keep_free_memory() -> None:
    """Has the allocator keep free memory for the next large payload, unless the environment has
    settings of it. For a process of the server's own that has no threads yet."""

def die_with_parent(number: int) -> None:
    """Has the kernel send this process a signal when its parent dies, whatever killed that one."""

def give_back_memory() -> None:
    """Returns what the allocator has free to the system. For a process that is about to fork."""

def open_descriptors() -> list[tuple[int, str]]:
    """The sockets, pipes and event descriptors that this process has open, with what each leads
    to."""

@final
class AccessLog:
    """The queue between a worker's I/O thread and the thread that writes its access log."""

    def __new__(cls) -> AccessLog: ...
    def take(self, limit_s: float) -> tuple[list[_AccessNote], int]:
        """What was done since the last call, and how many notes were lost. Waits for the first
        one, without the GIL, for at most `limit_s`."""
    def end(self) -> None:
        """Ends a `take` that waits."""

@final
class Bus:
    """Membership of this process in a named bus. A copy inherited by fork is inert."""

    @staticmethod
    def open(name: str, *, ring_bytes: int | None = None, history_bytes: int | None = None) -> Bus:
        """Creates the bus, or joins the one of that name. BusError, a sentence, if it cannot."""
    @staticmethod
    def attach(name: str, *, worker: bool = False) -> Bus | None:
        """Joins the bus of that name as it is. None if there is none.

        `worker`: as a worker of the bus's server, in a place that is reserved for it.
        """
    @staticmethod
    def serve(
        name: str,
        *,
        workers: int,
        extra_workers: int,
        supervised: bool,
        keeps: bool,
        joined: int = 0,
        ring_bytes: int | None = None,
        history_bytes: int | None = None,
    ) -> Bus:
        """As `open`, for the first process of a server, whose other processes get places that are
        reserved.

        `supervised`: it looks after `workers`, which join by themselves, and publishes nothing.
        There may be `extra_workers` more at a time; `joined` have joined already. `keeps`: it
        retains messages.
        """
    @property
    def name(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def ring_bytes(self) -> int: ...
    @property
    def history_bytes(self) -> int: ...
    @property
    def max_message_bytes(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def publish(self, topic: str, message: str | Buffer) -> int:
        """Publishes a message; returns its offset. Any thread.

        Waits for hubs that are far behind and come on, for five seconds at most.
        """
    def subscribe(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: int | None = None,
        epoch: int | None = None,
    ) -> tuple[Subscription, list[Record], bool]:
        """A reader of what is published to the topic from now on; and what was published before, as
        far as it is asked for, and whether that is all of it."""
    def history(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: int | None = None,
        epoch: int | None = None,
    ) -> tuple[list[Record], bool, int]:
        """What was published to the topic, whether it is all that was asked for, and the offset up
        to which it goes."""
    def retain(self, pattern: str, records: int, seconds: int) -> None:
        """From now on so many records of the topics that match are kept. `seconds` 0: for ever."""
    def bell(self) -> Bell:
        """A bell for one event loop."""
    def reap(self) -> int:
        """Cleans up after members that died, wakes all sleepers; returns how many had died."""
    def reserve_places(self, processes: int) -> None:
        """For a supervisor that is about to start a worker: places and memory for so many processes
        of the server, with itself. BusError says what is missing."""
    def fault(self) -> str | None:
        """Why it is of no use any more, such as "was removed". None: it is in order."""
    def remove(self) -> None:
        """Removes it, and tells those who have it open."""
    def remove_if_unused(self) -> bool:
        """Removes it unless another process has it open. Whether it did."""
    def close(self) -> None:
        """Leaves the bus, and ends its subscriptions. Twice is allowed."""

@type_check_only
class MemberDescription(TypedDict):
    """A living member of a bus, and what it has done so far."""

    slot: int
    pid: int
    counts: dict[str, int]
    """By the keys of `counters()`."""
    behind: int | None
    """Records that its reader furthest behind has still to come to. None: nobody there reads."""

@type_check_only
class HistoryDescription(TypedDict):
    """What a bus keeps beyond its newest messages."""

    rules: list[tuple[str, int, int]]
    """Pattern, records, seconds (0: for ever)."""
    topics: int
    used_bytes: int
    bytes: int

@type_check_only
class BusDescription(TypedDict):
    """What is known of a bus from outside. None: it is not one that this version can read."""

    name: str
    reserved_bytes: int
    members: list[MemberDescription]
    """The living ones."""
    epoch: int | None
    end: int | None
    ring_bytes: int | None
    reserved_places: int | None
    """Those for the processes of a server, including the places that they have."""
    log_entries: int | None
    history: HistoryDescription | None

def as_response(value: Any) -> Response:
    """Returns the value of a handler as a response, for middleware. TypeError if a handler may not
    return it."""

def answer_json(value: Any) -> bytes:
    """JSON, as the application that this process serves writes what its handlers answer."""

def check_pattern(pattern: str) -> None:
    """ValueError, a sentence, if a rule of `retain` cannot have this pattern."""

def buses() -> list[BusDescription]:
    """All buses of this user, by name."""

def counters() -> list[tuple[str, Literal["count", "bytes", "microseconds"], str, str]]:
    """The counters of members: key, unit, head of the column, and a phrase about each."""

def inspect_bus(name: str) -> BusDescription:
    """What is known of a bus without joining it. BusError if there is none."""

def remove_bus(name: str, *, although_used: bool = False) -> None:
    """Removes a bus. BusError if there is none, or if it is in use and that is not asked for."""

def json_body(request: Request) -> bytes:
    """The body of a request that should be JSON, for who decodes it; nobody awaits it. HTTPError
    415 if there is one that says it is something else."""

def root_path() -> str:
    """Where a proxy shows the application that this process serves; nothing before it serves."""

def to_json(value: Any) -> bytes:
    """JSON as Fanbus writes it. TypeError, ValueError for what it cannot say."""

@final
class Record:
    """A message as it was published."""

    @property
    def topic(self) -> str:
        """Where it was published."""
    @property
    def message(self) -> str | bytes:
        """What was published: str or bytes, as it was."""
    @property
    def offset(self) -> int:
        """Its number in the one order of the bus."""

@final
class Replay:
    """What a client got of a topic's past when it subscribed."""

    @property
    def messages(self) -> int:
        """How many messages."""
    @property
    def complete(self) -> bool:
        """Whether nothing is missing of what was asked for. With `last`: so many messages, or all
        that there ever were. With `since`: all that came after that offset."""
    @property
    def end(self) -> int:
        """The offset from which on the client gets what is published."""
    @property
    def epoch(self) -> int:
        """Which life of the bus the offset belongs to."""

@final
class Subscription:
    """One reader of one topic. Keeps the bus open."""

    def poll(self) -> Record | None:
        """The next record; None if there is none yet, or if it is closed. Lagged, BusError."""
    def sleep(self, limit_s: float = ...) -> None:
        """Blocks this thread until there may be something, for a quarter of a second at most, and
        for no longer than `limit_s`."""
    def close(self) -> None:
        """Ends it. Twice is allowed."""
    @property
    def closed(self) -> bool: ...

@final
class Bell:
    """A descriptor that is readable when subscriptions may have something to read."""

    def fileno(self) -> int: ...
    def clear(self) -> None:
        """Makes it unreadable until the next ring. Before polling."""

@final
class Router:
    """The routes of one application: pure data, made before the fork.

    `arguments` is what a handler is called with, in order: the name of a path parameter, or None
    for the request or the WebSocket. Each `add_` raises ValueError, with a sentence, for a bad
    path, an unknown converter, an argument that the path lacks, and a conflict (names both).
    `place` is how errors name the handler.
    """

    def __new__(
        cls, *, redirect_slashes: bool, compression: int | None, max_body_size: int | None
    ) -> Router: ...
    def add_http(
        self,
        methods: Sequence[str],
        path: str,
        handler: Callable[..., Any],
        *,
        asynchronous: bool,
        arguments: Sequence[str | None],
        place: str,
        max_body_size: int | None,
        stream_body: bool = False,
        turbo: bool = False,
        cache_ttl: float | None = None,
    ) -> int:
        """The number of the endpoint, for `surround`."""
    def surround(
        self, endpoint: int, handler: Callable[..., Any], asynchronous: bool, *, keeps: bool
    ) -> None:
        """Has a function called instead of an endpoint's: with the request first, and then with
        what that one takes of the path. Unless it `keeps`, it is called for each request, even on a
        turbo route."""
    def set_fallback(self, handler: Callable[..., Any], asynchronous: bool) -> None:
        """Has a function called with the request, the status (404, 405), the sentence and the
        methods that the path has, instead of answering so."""
    def set_cors(
        self,
        *,
        origins: Sequence[str],
        credentials: bool,
        methods: Sequence[str],
        headers: Sequence[str] | None,
        expose: Sequence[str],
        max_age: int,
    ) -> None:
        """What pages of other origins may do. ValueError, a sentence, for what cannot be."""
    def set_hosts(self, hosts: Sequence[str] | None, /) -> None:
        """The hosts that requests and handshakes may name; None: all. ValueError, a sentence, for
        what is not a host."""
    def add_websocket(
        self,
        path: str,
        handler: Callable[..., Any],
        *,
        arguments: Sequence[str | None],
        config: Any,
        place: str,
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
        hooks: Any,
        place: str,
    ) -> None:
        """One of `response_prefix`, `broadcast`. `admit` is asked once per connection, `hooks` are
        told of each session."""
    def add_folder(
        self,
        paths: Sequence[str],
        root: str,
        *,
        cache_control: str | None,
        precompressed: bool,
        place: str,
    ) -> None:
        """Serves a folder of files at two paths, the second with a parameter for the rest."""
    def path_parameters(self, path: str) -> dict[str, str]:
        """The parameters of a path, in its order: their names, and those of their converters."""
    def documented_path(self, path: str) -> str:
        """The path as a URL has it, with each parameter as `{name}`."""
    def url(self, path: str, values: dict[str, str]) -> str:
        """The path with its parameters filled in. ValueError if one is missing, or does not fit."""
    def __len__(self) -> int: ...

@final
class StreamEnd:
    """Ends an event stream. Any thread."""

    def __new__(cls) -> StreamEnd: ...
    def set(self, last: bytes) -> None:
        """Sends this as the last of the stream, and ends it. Only the first call counts."""

@final
class Sink:
    """Where the pieces of a streamed response go. Any thread."""

    def write(self, piece: str | bytes) -> bool:
        """Hands over a piece. False: wait for room, or nobody takes anything any more."""
    def is_full(self) -> bool:
        """Must whoever writes wait for room?"""
    def is_over(self) -> bool:
        """Nobody takes anything any more."""
    def set_trailers(self, lines: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Gives the lines that follow the last piece. Before `end`, once. ValueError for a field
        that cannot be a trailer."""
    def end(self, failed: bool) -> None:
        """Nothing more comes. `failed`: although more should have come; the connection is broken
        off."""

@final
class Withheld:
    """As long as this is there, processes that are forked from this one find /dev/null in place of
    the descriptors."""

    def __new__(cls, descriptors: Sequence[int]) -> Withheld: ...

@final
class Lane:
    """Threads for one kind of function: as many as keep Python's lock busy."""

    def post(self, call: Callable[[], object]) -> bool:
        """Has it called on a thread; what it raises is reported. False: no more functions are
        called. Any thread."""

@final
class Threads:
    """The threads of one worker, in lanes."""

    def __new__(cls) -> Threads: ...
    def lane(self, name: str, most: int) -> Lane:
        """One more, of at most so many threads, which are named after it."""
    def end(self) -> None:
        """Ends the threads that have nothing to do; the others end with what they do. Functions
        that wait are not called."""

@final
class Worker:
    """One worker's Rust half: I/O thread, hub, mailbox. It copies the listener's descriptor."""

    def __new__(
        cls,
        router: Router,
        bus: Bus,
        listener: int,
        settings: Settings,
        resources: WorkerResources,
    ) -> Worker:
        """ValueError if a trusted proxy is not an address or a network."""

    def start(self, loop: AbstractEventLoop) -> None: ...
    def fileno(self) -> int:
        """Readable when `drain` has work: `loop.add_reader(worker.fileno(), worker.drain)`."""
    def drain(self) -> None: ...
    def linger(self) -> None:
        """Called by `drain`, when the loop comes round: waits for what comes next with Python's
        lock, where the loop has waited long for that."""
    def publish(self, topic: str, message: str | Buffer) -> int: ...
    def pulse(self) -> tuple[int, int]:
        """How often the I/O thread has come round, ten times a second if it is well; and how many
        requests have come, handshakes among them."""
    def has_stopped_listening(self) -> bool:
        """Whether this worker's descriptor of the listener has been closed, which it is after the
        queue was emptied."""
    def busy(self) -> int:
        """How many handlers run, at least, or wait for a thread; whether or not their client is
        still there."""
    def under_way(self) -> list[tuple[str, int, float]]:
        """The handlers that run: of each route, how many, and how long the oldest one does, in
        seconds."""
    def shut_down(self, grace: float, linger: float, on_stopped: Callable[[], None]) -> None:
        """Stops accepting, closes WebSockets with 1012, finishes requests for `grace` seconds, and
        keeps connections without a request for `linger` seconds, at most half of `grace`.

        `on_stopped` is called from `drain` when nothing is left.
        """

@final
class Tls:
    """The files of TLS, as they were when this was made. ValueError if they cannot be used."""

    def __new__(
        cls,
        ssl_certfile: str,
        *,
        ssl_keyfile: str | None = None,
        ssl_keyfile_password: str | None = None,
        ssl_ca_certs: str | None = None,
    ) -> Tls: ...
    @property
    def warnings(self) -> list[str]:
        """Sentences about what works, but not with every client: an expired certificate."""

@final
class MultiDict:
    """A read-only mapping of names to their first values; `get_all` gives every one.

    Names keep the order in which they first came. Those of headers are compared without regard to
    case.
    """

    def __getitem__(self, name: str, /) -> str:
        """Raises MissingError, a KeyError that is answered with 400, if the name has not come."""
    def __contains__(self, name: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    @overload
    def get(self, name: str, default: None = None) -> str | None: ...
    @overload
    def get(self, name: str, default: _T) -> str | _T: ...
    def get_all(self, name: str) -> list[str]:
        """Every value of `name`, in the order in which they came."""
    def keys(self) -> list[str]: ...
    def values(self) -> list[str]: ...
    def items(self) -> list[tuple[str, str]]:
        """Names with their first values."""
    def pairs(self) -> list[tuple[str, str]]:
        """Every name and value, in the order in which they came."""
    def __eq__(self, other: object, /) -> bool: ...

@final
class Part:
    """A file of a form: in memory while it is small, else on disk. `fanbus.Upload` reads it."""

    @property
    def filename(self) -> str:
        """The name that the client gives it."""
    @property
    def content_type(self) -> str | None:
        """`Content-Type`, as the client says."""
    @property
    def size(self) -> int:
        """In bytes."""
    @property
    def in_memory(self) -> bool:
        """It can be read without waiting for a disk."""
    def read_at(self, offset: int, most: int) -> bytes:
        """Up to `most` bytes from `offset` on; fewer only at the end."""

@final
class Session:
    """One client's session on a turbo route. `on_open` and `on_close` get it; it is never
    constructed by hand.
    """

    @property
    def id(self) -> str:
        """Unique among all connections of this server, in all workers."""
    @property
    def path(self) -> str:
        """The path of the handshake, percent-decoded."""
    @property
    def path_params(self) -> dict[str, Any]:
        """The path's parameters by name."""
    @property
    def query(self) -> MultiDict:
        """The query's parameters."""
    @property
    def headers(self) -> MultiDict:
        """Of the handshake; names without regard to case."""
    @property
    def client(self) -> tuple[str, int]:
        """Address and port of the client; ("", 0) for one that came over a Unix socket, unless a
        trusted proxy says where it is."""
    @property
    def close_code(self) -> int | None:
        """None while open; else the code of the close (RFC 6455 section 7.4)."""
    @property
    def close_reason(self) -> str | None:
        """None while open; else the reason of the close, which may be empty."""

@type_check_only
class _Done(Coroutine[Any, Any, None]):
    """What need not be awaited; type checkers complain of a coroutine that is not."""

    def __await__(self) -> Generator[Any, Any]: ...
    def send(self, value: Any, /) -> Any: ...
    def throw(self, *error: Any) -> Any: ...
    def close(self) -> None: ...

@final
class WebSocket:
    """One client's WebSocket. Handlers get it; it is never constructed by hand.

    Everything that sends hands over to Rust at once; the result need not be awaited, and awaiting
    it waits only while the client is too slow.
    """

    @property
    def id(self) -> str:
        """Unique among all connections of this server, in all workers."""
    @property
    def path(self) -> str:
        """The path of the handshake, percent-decoded."""
    @property
    def path_params(self) -> dict[str, Any]:
        """The path's parameters by name."""
    @property
    def query(self) -> MultiDict:
        """The query's parameters."""
    @property
    def headers(self) -> MultiDict:
        """Of the handshake; names without regard to case."""
    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name."""
    @property
    def client(self) -> tuple[str, int]:
        """Address and port of the client; ("", 0) for one that came over a Unix socket, unless a
        trusted proxy says where it is."""
    @property
    def scheme(self) -> str:
        """wss if the client speaks TLS, to the server or to a trusted proxy; else ws."""
    @property
    def root_path(self) -> str:
        """Where a proxy shows the application, as `--root-path` says: it goes before every link."""
    @property
    def state(self) -> dict[str, Any]:
        """Yours: kept as long as the connection."""
    @property
    def close_code(self) -> int | None:
        """None while open; else the code of the close (RFC 6455 section 7.4)."""
    @property
    def close_reason(self) -> str | None:
        """None while open; else the reason of the close, which may be empty."""
    @property
    def dropped(self) -> int:
        """Published messages that the route's `overflow` has dropped for this client so far."""
    def accept(self, subprotocol: str | None = None) -> _Done:
        """Answers the handshake. The first use of the WebSocket implies it."""
    def reject(self, status: int = 403, reason: str | None = None) -> _Done:
        """Refuses the handshake with an HTTP status, instead of accepting it."""
    def send(self, message: str | Buffer) -> _Done:
        """Sends one message to this client. WebSocketClosed if it is gone."""
    def receive(self) -> Coroutine[Any, Any, str | bytes]:
        """The next message. WebSocketClosed when there is none any more."""
    def __aiter__(self) -> WebSocket: ...
    def __anext__(self) -> Coroutine[Any, Any, str | bytes]: ...
    def close(self, code: int = 1000, reason: str = "") -> _Done:
        """Closes with a code and a reason of at most 123 bytes (RFC 6455 section 5.5.1).

        Closing twice is allowed; the first one counts.
        """
    def subscribe(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: int | None = None,
        epoch: int | None = None,
    ) -> Replay:
        """From here on this client gets what is published to the topic, in any worker.

        `last=50` first sends it the newest 50 messages, `since=offset` all that came after that
        one (-1: all there are; `epoch` says which life of the bus the offset is from). Between
        those and what follows there is no gap, and none comes twice. What is there to be sent
        depends on `app.topic`; it is at most half of `max_queue_bytes`. The `Replay` that is
        returned says how many it were, and whether they are all that was asked for.

        Subscribing again changes nothing, but sends what is asked for once more. RuntimeError if
        the client is subscribed to `max_topics` others.
        """
    def unsubscribe(self, topic: str) -> None:
        """From here on this client no longer gets what is published to the topic."""
    def publish(self, topic: str, message: str | Buffer) -> int:
        """To everybody on the topic except this client. Returns the offset on the bus.

        May wait as `Fanbus.publish` does.
        """

@final
class Upload:
    """Pieces of the body of a request. `fanbus.uploads` makes an iterator of it."""

    def take(self) -> bytes | None:
        """The next piece, b"" at the end, or None if there is nothing yet."""
    def wait(self) -> bytes | None:
        """The next piece, b"" at the end. Waits for it on this thread."""
    def ring(self, future: Future[None]) -> None:
        """Has the event loop give the future a result when there is something to take."""

@final
class Request:
    """One HTTP request. Handlers get it; it is never constructed by hand.

    `json`, `text`, `bytes` and `form` give the value in a synchronous handler, and something to
    await in an asynchronous one. A multipart form is for `form` only; the others raise HTTPError
    415 for it.
    """

    @property
    def method(self) -> str:
        """The method, in upper case."""
    @property
    def path(self) -> str:
        """The path, percent-decoded."""
    @property
    def query_string(self) -> str:
        """What follows the `?`, as it was sent."""
    @property
    def path_params(self) -> dict[str, Any]:
        """The path's parameters by name."""
    @property
    def query(self) -> MultiDict:
        """The query's parameters."""
    @property
    def headers(self) -> MultiDict:
        """The headers; names without regard to case."""
    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name."""
    @property
    def client(self) -> tuple[str, int]:
        """Address and port of the client; ("", 0) for one that came over a Unix socket, unless a
        trusted proxy says where it is."""
    @property
    def scheme(self) -> str:
        """https if the request came over TLS, to the server or to a trusted proxy; else http."""
    @property
    def http_version(self) -> str:
        """The version of HTTP: "1.0", "1.1" or "2"."""
    @property
    def root_path(self) -> str:
        """Where a proxy shows the application, as `--root-path` says: it goes before every link."""
    @property
    def state(self) -> dict[str, Any]:
        """Yours: kept as long as the request."""
    def after_response(
        self, function: Callable[..., Any], /, *arguments: Any, **named: Any
    ) -> None:
        """Calls the function, in this worker, when the response has been handed over.

        Sync (on a thread) or async; those of a request one after the other, whatever becomes of the
        handler. What they raise is logged. At the worker's end they are waited for, for
        `timeout_graceful_shutdown`. RuntimeError after the handler has returned, and above 100."""
    def send_early_hints(self, headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> _Done:
        """Sends these headers ahead of the response, with status 103 (RFC 8297), so that a browser
        begins to load what the response will need.

        ```python
        request.send_early_hints({"link": "</style.css>; rel=preload; as=style"})
        ```

        They are sent at once; the result need not be awaited. A client of HTTP/1.0 gets none. A
        request may have 16 of them. ValueError for a header that belongs to the final response,
        RuntimeError above 16, after the handler has returned, and in a WebSocket's handshake."""
    def json(self) -> Any:
        """The body, parsed. HTTPError 400 if it is not JSON."""
    def text(self) -> Any:
        """The body as str (UTF-8). HTTPError 400 if it is not."""
    def bytes(self) -> Any:
        """The body."""
    def stream(self) -> Any:
        """An iterator of the body's pieces, as bytes: `for` in a synchronous handler, `async for`
        in an asynchronous one.

        A route with `stream_body=True` gets them as they come, and raises HTTPError 413, 408 or 400
        for a body that is too large, too slow, or broken off. Any other route has read the body
        before, and gets it in one piece."""
    def form(self) -> Any:
        """The fields and files of a form, as `fanbus.Form`. HTTPError 415 if the body is none, 400
        if its text is not UTF-8."""
