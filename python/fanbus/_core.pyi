"""The Rust half of Fanbus. Not public: `fanbus` re-exports what users need."""

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, final, overload, type_check_only

from typing_extensions import Buffer, disjoint_base

from fanbus.config import Settings
from fanbus.responses import Response
from fanbus.runtime.worker import WorkerResources

__all__ = [
    "AccessLog",
    "Bell",
    "Bus",
    "Connection",
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
"""Kind ("request", "opened", "closed"), time (seconds since 1970), duration (seconds), client,
secure, method, target, version, status, bytes, referer, agent."""

__version__: str

def bind_listeners(
    host: str, port: int, count: int, backlog: int, *, shared: bool = False
) -> tuple[int, list[int]]:
    """Binds `count` SO_REUSEPORT listeners on one port; returns the port and the descriptors.

    The descriptors are close-on-exec. Port 0 picks a free port. The first listener is bound
    exclusively, so that a port in use is an error even if another SO_REUSEPORT server uses it,
    unless `shared`.
    Raises OSError with its errno (EADDRINUSE, EACCES, EADDRNOTAVAIL, ENOENT for an unknown host).
    """

def keep_free_memory() -> None:
    """Makes the allocator retain free memory for the next large payload, unless the environment
    configures it. Only for a process of the server that has no threads yet."""

def die_with_parent(number: int) -> None:
    """Makes the kernel send this process a signal when its parent dies, for whatever reason."""

def give_back_memory() -> None:
    """Returns the allocator's free memory to the system. For a process that is about to fork."""

def open_descriptors() -> list[tuple[int, str]]:
    """The sockets, pipes and event descriptors that this process has open, each with its target."""

@final
class AccessLog:
    """The queue between a worker's I/O thread and the thread that writes its access log."""

    def __new__(cls) -> AccessLog: ...
    def take(self, limit_s: float) -> tuple[list[_AccessNote], int]:
        """The notes since the last call, and how many were lost. Waits for the first one, without
        the GIL, for at most `limit_s` seconds."""
    def end(self) -> None:
        """Ends a `take` that waits."""

@final
class Bus:
    """The membership of this process in a named bus. A copy that a fork has inherited is inert."""

    @staticmethod
    def open(name: str, *, ring_bytes: int | None = None, history_bytes: int | None = None) -> Bus:
        """Creates the bus, or joins the existing one of that name. BusError if that fails."""
    @staticmethod
    def attach(name: str, *, worker: bool = False) -> Bus | None:
        """Joins the existing bus of that name. None if there is none.

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
        """As `open`, for the first process of a server; it reserves places for the other processes.

        `supervised`: this process supervises `workers`, which join by themselves, and publishes
        nothing. There may be `extra_workers` more at a time; `joined` have joined already.
        `keeps`: it retains messages.
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

        Waits for hubs that are far behind and make progress, for five seconds at most.
        """
    def subscribe(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: int | None = None,
        epoch: int | None = None,
    ) -> tuple[Subscription, list[Record], bool]:
        """A reader of the messages that are published to the topic from now on; the requested
        earlier messages; and whether these are complete."""
    def history(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: int | None = None,
        epoch: int | None = None,
    ) -> tuple[list[Record], bool, int]:
        """The requested messages of the topic, whether they are complete, and the offset up to
        which they go."""
    def retain(self, pattern: str, records: int, seconds: int) -> None:
        """From now on so many records of each matching topic are retained. `seconds` 0: without an
        age limit."""
    def bell(self) -> Bell:
        """A descriptor that wakes one event loop for its subscriptions."""
    def reap(self) -> int:
        """Cleans up after dead members and wakes all sleepers; returns the number of the dead
        members."""
    def reserve_places(self, processes: int) -> None:
        """For a supervisor that is about to start a worker: reserves places and memory for so many
        processes of the server, itself included. Raises BusError if there is no
        capacity for them."""
    def fault(self) -> str | None:
        """Why the bus is unusable, such as "was removed". None if it is usable."""
    def remove(self) -> None:
        """Removes the bus, and notifies its members."""
    def remove_if_unused(self) -> bool:
        """Removes the bus unless another process has it open. True if it was removed."""
    def close(self) -> None:
        """Leaves the bus, and ends its subscriptions. Further calls do nothing."""

@type_check_only
class MemberDescription(TypedDict):
    """A living member of a bus, and its counters."""

    slot: int
    pid: int
    counts: dict[str, int]
    """By the keys of `counters()`."""
    behind: int | None
    """Records that the slowest reader of the member has not read yet. None: it has no reader."""

@type_check_only
class HistoryDescription(TypedDict):
    """The history that a bus retains."""

    rules: list[tuple[str, int, int]]
    """Pattern, records, seconds (0: without an age limit)."""
    topics: int
    used_bytes: int
    bytes: int

@type_check_only
class BusDescription(TypedDict):
    """A bus as seen from outside. A field is None if this version cannot read the bus."""

    name: str
    reserved_bytes: int
    members: list[MemberDescription]
    """The living members."""
    epoch: int | None
    end: int | None
    ring_bytes: int | None
    reserved_places: int | None
    """Places for the processes of a server, including the places in use."""
    log_entries: int | None
    history: HistoryDescription | None

def as_response(value: Any) -> Response:
    """Returns the value of a handler as a response, for middleware. TypeError if a handler may not
    return it."""

def answer_json(value: Any) -> bytes:
    """JSON, written by the codec of the application that this process serves."""

def check_pattern(pattern: str) -> None:
    """ValueError if the pattern is not valid for `retain`."""

def buses() -> list[BusDescription]:
    """All buses of this user, by name."""

def counters() -> list[tuple[str, Literal["count", "bytes", "microseconds"], str, str]]:
    """The counters of members: key, unit, head of the column, and a phrase about each."""

def inspect_bus(name: str) -> BusDescription:
    """Describes a bus without joining it. BusError if there is none."""

def remove_bus(name: str, *, although_used: bool = False) -> None:
    """Removes a bus. BusError if there is none, or if it is in use, unless `although_used`."""

def json_body(request: Request) -> bytes:
    """The body of a request that should be JSON, as bytes, for the decoder of a model. HTTPError
    415 if there is a body with another Content-Type."""

def root_path() -> str:
    """The path below which a proxy shows the application that this process serves; empty before it
    serves."""

def to_json(value: Any) -> bytes:
    """JSON, written by the encoder of Fanbus. TypeError and ValueError for values that JSON cannot
    hold."""

@final
class Record:
    """A message on the bus, with its topic and offset."""

    @property
    def topic(self) -> str:
        """The topic that it was published to."""
    @property
    def message(self) -> str | bytes:
        """The message: str or bytes, as it was published."""
    @property
    def offset(self) -> int:
        """The number of the record in the order of the bus."""

@final
class Replay:
    """The replay that a client got when it subscribed."""

    @property
    def messages(self) -> int:
        """The number of messages."""
    @property
    def complete(self) -> bool:
        """Whether no requested message is missing. With `last`: so many messages, or all that were
        ever published. With `since`: all messages after that offset."""
    @property
    def end(self) -> int:
        """The offset from which on the client gets new messages."""
    @property
    def epoch(self) -> int:
        """The epoch of the bus that the offset belongs to."""

@final
class Subscription:
    """One reader of one topic. It holds the bus open."""

    def poll(self) -> Record | None:
        """The next record. None if there is none yet, or if the subscription is closed. Lagged,
        BusError."""
    def sleep(self, limit_s: float = ...) -> None:
        """Blocks this thread until there may be a record, for at most a quarter of a second, and at
        most `limit_s` seconds."""
    def close(self) -> None:
        """Ends the subscription. Further calls do nothing."""
    @property
    def closed(self) -> bool: ...

@final
class Bell:
    """The descriptor that is readable when subscriptions may have records to read."""

    def fileno(self) -> int: ...
    def clear(self) -> None:
        """Makes it unreadable until it is raised again. Call it before polling."""

@final
class Router:
    """The routes of one application: pure data, made before the fork.

    `arguments` are the arguments of a handler, in order: the name of a path parameter, or None for
    the request or the WebSocket. Each `add_` raises ValueError for a bad path, an unknown
    converter, an argument that the path lacks, and a conflict (it names both routes). `place` is
    the name of the handler in errors.
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
        """Returns the number of the endpoint, for `wrap_endpoint`."""
    def wrap_endpoint(
        self, endpoint: int, handler: Callable[..., Any], asynchronous: bool, *, keeps: bool
    ) -> None:
        """Replaces the function of an endpoint by one that wraps it. The wrapper gets the request
        and the values of the path that the function takes. Without `keeps` it is called for each
        request, even on a turbo route, whose responses are then not cached."""
    def set_fallback(self, handler: Callable[..., Any], asynchronous: bool) -> None:
        """Sets the function that responds if no route matches, instead of the built-in response. It
        gets the request, the status (404 or 405), the message and the path's methods."""
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
        """Sets the CORS rules for pages of other origins. ValueError for a rule that is not
        valid."""
    def set_hosts(self, hosts: Sequence[str] | None, /) -> None:
        """Sets the hosts that requests and handshakes may name; None: all. ValueError for a string
        that is not a host."""
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
        """Registers an echo (`response_prefix`) or a relay (`broadcast`). `admit` is called once
        per connection, `hooks` for each session that opens or closes."""
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
        """The parameters of a path, in its order: their names, and the names of their
        converters."""
    def documented_path(self, path: str) -> str:
        """The path as a URL, with each parameter as `{name}`."""
    def url(self, path: str, values: dict[str, str]) -> str:
        """The path with its parameters filled in. ValueError if one is missing, or does not fit."""
    def __len__(self) -> int: ...

@final
class StreamEnd:
    """The handle that ends an event stream. Any thread."""

    def __new__(cls) -> StreamEnd: ...
    def set(self, last: bytes) -> None:
        """Sends the last bytes of the stream and ends it. Only the first call counts."""

@final
class Sink:
    """The sink of the chunks of a streamed response. Any thread."""

    def write(self, piece: str | bytes) -> bool:
        """Hands over a chunk. False: wait for capacity, or the stream is over."""
    def is_full(self) -> bool:
        """Must the producer wait for capacity?"""
    def is_over(self) -> bool:
        """Is the stream over, for example because the client has disconnected?"""
    def set_trailers(self, lines: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Sets the trailers. Call it once, before `end`. ValueError for a field that cannot be a
        trailer."""
    def end(self, failed: bool) -> None:
        """Ends the body. `failed`: the body is incomplete, so the connection is aborted."""

@final
class Withheld:
    """As long as this object exists, forked processes have /dev/null in place of the
    descriptors."""

    def __new__(cls, descriptors: Sequence[int]) -> Withheld: ...

@final
class Lane:
    """Threads for one kind of function: as many as keep Python's lock busy."""

    def post(self, call: Callable[[], object]) -> bool:
        """Calls the function on a thread of the lane, and reports its exception. False: the lane
        has ended. Any thread."""

@final
class Threads:
    """The threads of one worker, in lanes."""

    def __new__(cls) -> Threads: ...
    def lane(self, name: str, most: int) -> Lane:
        """Adds a lane of at most `most` threads, which are named after it."""
    def end(self) -> None:
        """Ends the idle threads; the others end after their job. Waiting functions are not
        called."""

@final
class Worker:
    """The Rust half of a worker: I/O thread, hub and mailboxes. It copies the listener's
    descriptor."""

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
        """Scheduled by `drain`: waits for the next event while holding Python's lock, where the
        loop waits long for that lock."""
    def publish(self, topic: str, message: str | Buffer) -> int: ...
    def pulse(self) -> tuple[int, int]:
        """The number of turns of the I/O thread's timer, ten per second if it is healthy; and the
        number of requests so far, including handshakes."""
    def has_stopped_listening(self) -> bool:
        """Has this worker closed its descriptor of the listener? It does so after it has emptied
        the accept queue."""
    def busy(self) -> int:
        """The least number of handlers that run or wait for a thread, whether or not their clients
        are connected."""
    def running_handlers(self) -> list[tuple[str, int, float]]:
        """The running handlers: for each route the number, and for how many seconds the oldest one
        has run."""
    def shut_down(self, grace: float, linger: float, on_stopped: Callable[[], None]) -> None:
        """Stops accepting, closes WebSockets with 1012, finishes requests for `grace` seconds, and
        keeps connections without a request for `linger` seconds, at most half of `grace`.

        `on_stopped` is called from `drain` when nothing is left.
        """

@final
class Tls:
    """A certificate and its key, as the files were when this object was made. ValueError if they
    cannot be used."""

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
        """Warnings about a certificate that some clients refuse, for example an expired one."""

@final
class MultiDict:
    """A read-only mapping of names to their first values; `get_all` returns every value.

    Names have the order of the request. Names of headers are compared without regard to case.
    """

    def __getitem__(self, name: str, /) -> str:
        """Raises MissingError, a KeyError that becomes a 400 response, if the name is missing."""
    def __contains__(self, name: object, /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    @overload
    def get(self, name: str, default: None = None) -> str | None: ...
    @overload
    def get(self, name: str, default: _T) -> str | _T: ...
    def get_all(self, name: str) -> list[str]:
        """Every value of `name`, in the order of the request."""
    def keys(self) -> list[str]: ...
    def values(self) -> list[str]: ...
    def items(self) -> list[tuple[str, str]]:
        """Names with their first values."""
    def pairs(self) -> list[tuple[str, str]]:
        """Every name and value, in the order of the request."""
    def __eq__(self, other: object, /) -> bool: ...

@final
class Part:
    """A file of a form: in memory while it is small, else on disk. `fanbus.Upload` reads it."""

    @property
    def filename(self) -> str:
        """The file name that the client sent."""
    @property
    def content_type(self) -> str | None:
        """The `Content-Type` that the client sent."""
    @property
    def size(self) -> int:
        """The size in bytes."""
    @property
    def in_memory(self) -> bool:
        """Is the file in memory, so that a read does not wait for a disk?"""
    def read_at(self, offset: int, most: int) -> bytes:
        """Up to `most` bytes from `offset` on; fewer only at the end."""

@disjoint_base
class Connection:
    """The request of a client: an HTTP request, or the handshake of a WebSocket.

    The base class of `Request`, `WebSocket` and `Session`. It is never constructed by hand.
    """

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
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
        """The cookies by name (RFC 6265, section 4.2); the first of two with one name counts."""
    @property
    def client(self) -> tuple[str, int]:
        """Address and port of the client; ("", 0) for one that came over a Unix socket, unless a
        trusted proxy says where it is."""
    @property
    def scheme(self) -> str:
        """https or wss if the client uses TLS, to the server or to a trusted proxy; else http or
        ws."""
    @property
    def root_path(self) -> str:
        """The path below which a proxy shows the application (`--root-path`): it goes before every
        link."""
    @property
    def state(self) -> dict[str, Any]:
        """A dict for the application, which lives as long as this object."""

@final
class Session(Connection):
    """One client's session on a turbo route. `on_open` and `on_close` get it; it is never
    constructed by hand.
    """

    @property
    def id(self) -> str:
        """Unique among all connections of this server, in all workers."""
    @property
    def close_code(self) -> int | None:
        """None while open; else the code of the close (RFC 6455 section 7.4)."""
    @property
    def close_reason(self) -> str | None:
        """None while open; else the reason of the close, which may be empty."""

@type_check_only
class _Done(Coroutine[Any, Any, None]):
    """An awaitable that need not be awaited; type checkers would warn of a coroutine."""

    def __await__(self) -> Generator[Any, Any]: ...
    def send(self, value: Any, /) -> Any: ...
    def throw(self, *error: Any) -> Any: ...
    def close(self) -> None: ...

@final
class WebSocket(Connection):
    """One client's WebSocket. Handlers get it; it is never constructed by hand.

    Methods that send hand over to Rust at once. Their result need not be awaited; awaiting it waits
    only while the client is too slow.
    """

    @property
    def id(self) -> str:
        """Unique among all connections of this server, in all workers."""
    @property
    def close_code(self) -> int | None:
        """None while open; else the code of the close (RFC 6455 section 7.4)."""
    @property
    def close_reason(self) -> str | None:
        """None while open; else the reason of the close, which may be empty."""
    @property
    def dropped(self) -> int:
        """The number of published messages that the route's `overflow` has dropped for this
        client."""
    def accept(self, subprotocol: str | None = None) -> _Done:
        """Accepts the handshake. The first use of the WebSocket does so, too."""
    def reject(self, status: int = 403, reason: str | None = None) -> _Done:
        """Refuses the handshake with an HTTP status, instead of accepting it."""
    def send(self, message: str | Buffer) -> _Done:
        """Sends one message to this client. WebSocketClosed if the WebSocket is closed."""
    def receive(self) -> Coroutine[Any, Any, str | bytes]:
        """The next message. WebSocketClosed when the WebSocket is closed and all messages are
        read."""
    def __aiter__(self) -> WebSocket: ...
    def __anext__(self) -> Coroutine[Any, Any, str | bytes]: ...
    def close(self, code: int = 1000, reason: str = "") -> _Done:
        """Closes with a code and a reason of at most 123 bytes (RFC 6455 section 5.5.1).

        Only the first call counts.
        """
    def subscribe(
        self,
        topic: str,
        *,
        last: int | None = None,
        since: int | None = None,
        epoch: int | None = None,
    ) -> Replay:
        """Subscribes this client to the topic: it gets the messages that any worker publishes.

        `last=50` first sends the newest 50 messages, `since=offset` all messages after that offset
        (-1: all; `epoch` is the epoch of the bus that the offset is from). There is no gap between
        these and the new messages, and none comes twice. `app.topic` decides which messages are
        retained; at most half of `max_queue_bytes` are sent. The returned `Replay` has the number
        of messages, and whether they are complete.

        A second subscription changes nothing, but sends the requested messages again. RuntimeError
        if the client is subscribed to `max_topics` other topics.
        """
    def unsubscribe(self, topic: str) -> None:
        """Unsubscribes this client from the topic."""
    def publish(self, topic: str, message: str | Buffer) -> int:
        """Publishes to every subscriber of the topic except this client. Returns the offset.

        May wait as `Fanbus.publish` does.
        """

@final
class Upload:
    """The chunks of a request body. `fanbus.runtime.request_stream` makes an iterator of them."""

    def take(self) -> bytes | None:
        """The next chunk, b"" at the end, or None if none has arrived yet."""
    def wait(self) -> bytes | None:
        """The next chunk, b"" at the end. Blocks this thread until it arrives."""
    def ring(self, future: Future[None]) -> None:
        """Makes the event loop set the future's result when there is a chunk to take."""

@final
class Request(Connection):
    """One HTTP request. Handlers get it; it is never constructed by hand.

    `json`, `text`, `bytes` and `form` return the value in a synchronous handler, and an awaitable
    in an asynchronous one. A multipart form is for `form` only; the others raise HTTPError 415 for
    it."""

    @property
    def method(self) -> str:
        """The method, in upper case."""
    @property
    def query_string(self) -> str:
        """The part of the target behind the `?`, as it was sent."""
    @property
    def http_version(self) -> str:
        """The version of HTTP: "1.0", "1.1" or "2"."""
    def after_response(
        self, function: Callable[..., Any], /, *arguments: Any, **named: Any
    ) -> None:
        """Calls the function in this worker after the response was handed over.

        The function may be synchronous (it runs on a thread) or asynchronous. The functions of a
        request run one after the other, even if the handler fails. Their exceptions are logged. A
        worker that shuts down waits for them, for `timeout_graceful_shutdown`. RuntimeError after
        the handler has returned, and above 100 functions."""
    def send_early_hints(self, headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> _Done:
        """Sends these headers ahead of the response, with status 103 (RFC 8297), so that a browser
        can preload resources.

        ```python
        request.send_early_hints({"link": "</style.css>; rel=preload; as=style"})
        ```

        They are sent at once; the result need not be awaited. A client of HTTP/1.0 gets none. A
        request may have 16 early hints. ValueError for a header that belongs to the final response.
        RuntimeError above 16, after the handler has returned, and in a WebSocket's handshake."""
    def json(self) -> Any:
        """The body, parsed. HTTPError 400 if it is not JSON."""
    def text(self) -> Any:
        """The body as str (UTF-8). HTTPError 400 if it is not."""
    def bytes(self) -> Any:
        """The body."""
    def stream(self) -> Any:
        """An iterator of the body's chunks, as bytes: `for` in a synchronous handler, `async for`
        in an asynchronous one.

        On a route with `stream_body=True` the chunks come as they arrive, and HTTPError 413, 408 or
        400 is raised for a body that is too large, too slow, or incomplete. On other routes the
        whole body is one chunk."""
    def form(self) -> Any:
        """The fields and files of a form, as `fanbus.Form`. HTTPError 415 if the body is not a
        form, 400 if its text is not UTF-8."""
