"""The clients that test an application: `TestClient`, in this process, and `TestServer`, with real
workers.

Both serve on a free port of 127.0.0.1, with the sockets, limits and threads of a server. They need
httpx and websockets: `pip install 'fanbus[testing]'`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

from fanbus import _core
from fanbus.app import Fanbus
from fanbus.config import Settings
from fanbus.exceptions import BusError, FanbusError, StartError
from fanbus.runtime import worker, worker_process
from fanbus.runtime.application import Application
from fanbus.server.server_bus import ServerBus
from fanbus.server.sockets import open_listeners

try:
    import httpx
    from websockets.sync.client import ClientConnection, connect
except ImportError as error:
    raise ImportError(
        f"fanbus.testing needs httpx and websockets ({error}): pip install 'fanbus[testing]'."
    ) from None

__all__ = ["TestClient", "TestServer"]

_TIMEOUT_S = 30.0
_HOST = "127.0.0.1"
_Self = TypeVar("_Self", bound="_Client")


class _Client(httpx.Client):
    """An `httpx.Client` for one server, which opens WebSockets too."""

    def __init__(self, app: Fanbus, **options: Any) -> None:
        if not isinstance(app, Fanbus):
            raise FanbusError(f"{type(self).__name__} expects a Fanbus, got {type(app).__name__}.")
        options = {"timeout": _TIMEOUT_S, "trust_env": False, **options}
        super().__init__(**options)
        self.app = app
        self.port = 0
        """The port of the server while it runs, else 0."""

    def websocket_connect(
        self, path: str, **options: Any
    ) -> AbstractContextManager[ClientConnection]:
        """Opens a WebSocket, with the client's cookies and headers, for `with`.

        `with client.websocket_connect("/ws") as ws:` opens a connection of the library websockets:
        `ws.send`, `ws.recv`, `ws.close`, `for message in ws`. `options` are those of
        `websockets.sync.client.connect`, such as `subprotocols` and `additional_headers`.
        A handshake that is refused raises `websockets.exceptions.InvalidStatus`.
        """
        self._check()
        own = self.build_request("GET", path, headers=options.pop("additional_headers", None))
        skipped = ("host", "accept", "accept-encoding", "connection", "user-agent")
        headers = [pair for pair in own.headers.multi_items() if pair[0] not in skipped]
        url = str(own.url.copy_with(scheme="ws"))
        connection: AbstractContextManager[ClientConnection] = connect(
            url, **{"additional_headers": headers, "proxy": None, **options}
        )
        return connection

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Sends a request, as `httpx.Client.send` does. Raises FanbusError outside of `with`."""
        self._check()
        return super().send(request, **options)

    def __enter__(self: _Self) -> _Self:
        self.port = self._start()
        self.base_url = httpx.URL(f"http://{_HOST}:{self.port}")
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self.port = 0
            self._stop()

    def _check(self) -> None:
        if not self.port:
            name = type(self).__name__
            raise FanbusError(
                f"The server of this {name} does not run: write `with {name}(app) as client:`."
            )

    def _start(self) -> int:
        raise NotImplementedError

    def _stop(self) -> None:
        raise NotImplementedError


class TestClient(_Client):
    """A client that serves an application in this process.

    ```python
    with TestClient(app) as client:
        assert client.get("/").status_code == 200
        with client.websocket_connect("/ws/echo") as ws:
            ws.send("hello")
            assert ws.recv() == "Echo: hello"
    ```

    It is an `httpx.Client`, with all its methods and options. The server is one worker, on threads
    of its own: tests can inspect and patch the objects of the application, and stop in a debugger.
    `on_startup`, `on_shutdown` and `lifespan` run at the beginning and the end of `with`, on the
    server's thread. Several clients may run at a time. Clients of one application share its server,
    but not their cookies.

    An error in a handler becomes a 500 response, and is logged to `fanbus` (pytest shows it). A
    failed start raises StartError.
    """

    __test__ = False  # pytest must not collect it, although its name starts with Test

    def __init__(self, app: Fanbus, **options: Any) -> None:
        """`options` are those of `httpx.Client`."""
        super().__init__(app, **options)
        self._server: _ThreadServer | None = None

    def _start(self) -> int:
        self._server = _ThreadServer.of(self.app)
        return self._server.port

    def _stop(self) -> None:
        if self._server is not None:
            self._server.leave()
            self._server = None


class TestServer(_Client):
    """A client that serves an application with real workers, in processes of their own.

    ```python
    with TestServer(app, workers=3) as server:
        connect = server.websocket_connect
        with connect("/rooms/a") as one, connect("/rooms/a") as two:
            one.send("hello")
            assert two.recv() == "hello"  # in the same worker or in two
    ```

    It is an `httpx.Client` that opens a new connection for each request, so that requests reach all
    workers. The workers are forked from this process, as `app.run` does it: each has a copy of the
    application. Changes in their memory do not appear in this process.
    """

    __test__ = False

    def __init__(self, app: Fanbus, *, workers: int = 2, **options: Any) -> None:
        """`options` are those of `httpx.Client`."""
        limits = httpx.Limits(max_keepalive_connections=0)
        super().__init__(app, **{"limits": limits, **options})
        self.workers = workers
        self.pid = 0
        """The process ID of the supervisor while it runs, else 0."""
        self._folder: TemporaryDirectory[str] | None = None
        self._bus_name = ""

    def log(self) -> str:
        """The output of the server so far, on stdout and stderr."""
        if self._folder is None:
            return ""
        return Path(self._folder.name, "log").read_text(errors="replace")

    def _start(self) -> int:
        if self.app._worker is not None:
            raise FanbusError(
                "A TestClient serves this application in this process, whose threads are not "
                "inherited: end it before the TestServer begins."
            )
        settings = Settings.of(
            {"host": _HOST, "port": 0, "workers": self.workers},
            single_process=False,
        )
        self._folder = TemporaryDirectory(prefix="fanbus-test-")
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            # The child uses no lock that another thread of this process may hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _become_server(self.app._application, settings, Path(self._folder.name, "log"), writing)
        os.close(writing)
        with os.fdopen(reading) as report:
            port = report.readline()  # empty if the process has ended before it was ready
        if not port:
            status = self._wait()
            log = self.log().strip()
            self._clean()
            raise StartError(log or f"The server ended with status {status}.", status=status)
        self._bus_name = f"{self.app.name}-{int(port)}"
        return int(port)

    def _stop(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGTERM)
            status = self._wait()
            if status:
                self._remove_bus()
            log = self.log()
            self._clean()
            if status:
                raise FanbusError(f"The server ended with status {status}:\n{log}")

    def _wait(self) -> int:
        end = time.monotonic() + _TIMEOUT_S
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                end += _TIMEOUT_S
            time.sleep(0.005)

    def _remove_bus(self) -> None:
        """Removes the bus of a server that was killed. The workers end with their server, and
        have the bus open until then."""
        end = time.monotonic() + _TIMEOUT_S
        segment = Path(f"/dev/shm/fanbus.{self._bus_name}")  # noqa: S108 - the place of all buses
        while segment.exists() and time.monotonic() < end:
            with contextlib.suppress(BusError):
                _core.remove_bus(self._bus_name)
            time.sleep(0.005)

    def _clean(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


class _ThreadServer:
    """A worker in a thread of this process, shared by the clients of its application."""

    _all: ClassVar[WeakKeyDictionary[Fanbus, _ThreadServer]] = WeakKeyDictionary()
    _lock = threading.Lock()

    @classmethod
    def of(cls, app: Fanbus) -> _ThreadServer:
        """Returns the server of `app`, and counts one more client of it."""
        with cls._lock:
            server = cls._all.get(app)
            if server is None:
                if app._worker is not None:
                    raise FanbusError("The application runs already, and not in a TestClient.")
                if any(other._json is not app._json for other in cls._all):
                    raise FanbusError(
                        "A TestClient serves another application in this process, with another "
                        "Fanbus(json=...), of which a process has one: end it before this begins."
                    )
                server = cls(app)
                cls._all[app] = server
            server._clients += 1
            return server

    def __init__(self, app: Fanbus) -> None:
        self._app = app
        self._clients = 0
        self._settings = Settings.of(
            {"host": _HOST, "port": 0, "workers": 1, "timeout_graceful_shutdown": 5.0},
            single_process=True,
        )
        self.port, (self._listener,) = open_listeners(self._settings)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._end: Callable[[], None] = lambda: None
        # A daemon thread: a test that fails in the middle must not block the end of the program.
        self._thread = threading.Thread(target=self._run, name="fanbus-test", daemon=True)
        self._thread.start()
        self._started.wait()
        self._raise_failure()

    def leave(self) -> None:
        """Removes one client. The last one ends the server."""
        with self._lock:
            self._clients -= 1
            if self._clients:
                return
            del self._all[self._app]
            self._end()
            self._thread.join()
        self._raise_failure()

    def _raise_failure(self) -> None:
        """Raises the exception that has ended the thread, if there is one."""
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def _run(self) -> None:
        try:
            # A name has 64 bytes at most, and process IDs have up to 7 digits.
            place = f"-test-{os.getpid()}-{self.port}"
            bus = _core.Bus.open(f"{self._app.name[: 64 - len(place)]}{place}")
            try:
                for rule in self._app._application.retention_rules:
                    bus.retain(rule.pattern, rule.history, rule.seconds)
                worker.serve(
                    self._app._application,
                    self._settings,
                    bus,
                    self._listener,
                    end_on=(),
                    on_ready=self._is_ready,
                    on_end=self._take_end,
                )
            finally:
                self._app._bus = None
                bus.remove()
                bus.close()
        except BaseException as error:  # noqa: BLE001 - raised again in the test
            self._failure = error
        finally:
            self._started.set()

    def _take_end(self, loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
        def begin() -> None:
            loop.call_soon_threadsafe(end)

        self._end = begin

    def _is_ready(self, _core: _core.Worker, _loop: asyncio.AbstractEventLoop) -> None:
        self._started.set()


def _become_server(app: Application, settings: Settings, log: Path, report: int) -> None:
    """Runs the supervisor in the process between the test and the workers. Does not return."""
    status = 1
    try:
        from fanbus.runtime import fork_handlers, logs
        from fanbus.server.supervisor import Supervisor

        atexit._clear()  # exit handlers of the test are for its own process
        fork_handlers.disown()
        _core.die_with_parent(signal.SIGTERM)  # in order, so that the bus goes too
        os.setpgid(0, 0)  # Ctrl+C is for the test
        log_file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor in (1, 2):
            os.dup2(log_file, descriptor)
        sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        logs.to_stderr(settings)

        def on_ready(port: int) -> None:
            os.write(report, f"{port}\n".encode())

        Supervisor(
            settings,
            # No other server will use the port of a test, so the bus does not stay.
            bus=ServerBus(app.name, app.retention_rules, settings, is_temporary=True),
            run_worker=partial(worker_process.main, app, settings),
            on_ready=on_ready,
        ).run()
        status = 0
    except StartError as error:
        status = error.status
        sys.stderr.write(f"{error}\n")
    except BaseException:  # noqa: BLE001 - the child must not run the rest of the test
        traceback.print_exc()
    finally:
        os._exit(status)
