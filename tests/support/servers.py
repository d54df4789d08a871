"""A server under test: its processes, its port, and what it says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import httpx

from support import segments
from support.paths import APPS

DEADLINE_S = 30.0

_T = TypeVar("_T")


def wait_for(condition: Callable[[], _T | None], what: str, deadline_s: float = DEADLINE_S) -> _T:
    """The first true value of `condition`; AssertionError when the deadline has passed."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {deadline_s:g} s")
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    return _state(pid) not in ("Z", "X")


def stop(pid: int) -> None:
    """SIGSTOP, and waits until all of its threads stand still."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    wait_for(
        lambda: {_state(int(thread.name)) for thread in threads.iterdir()} == {"T"},
        f"a stop of PID {pid}",
    )


def _state(pid: int) -> str:
    """One letter, as proc(5) has them. X if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "X"
    return stat.rpartition(")")[2].split()[0]


def children(pid: int) -> list[int]:
    """The living child processes of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, parent = stat.rpartition(")")[2].split()[:2]
        if int(parent) == pid and state not in ("Z", "X"):
            found.append(int(entry.name))
    return sorted(found)


def client_of(port: int, scheme: str = "http") -> httpx.Client:
    """A client that opens a new connection for each request."""
    return httpx.Client(
        base_url=f"{scheme}://127.0.0.1:{port}",
        timeout=DEADLINE_S,
        limits=httpx.Limits(max_keepalive_connections=0),
        trust_env=False,
        verify=False,  # certificates are others' affair, and to load all takes 20 ms
    )


class Server:
    """An application that runs in a process group of its own. `with` waits for it, and ends it."""

    def __init__(
        self,
        app: str | Path,
        *,
        workers: int,
        environment: dict[str, str],
        stderr: Path,
        arguments: tuple[str, ...] = (),
        inside: tuple[str, ...] = (),
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        """`inside`: the beginning of a command that runs another one in its own place. `pass_fds`:
        what it inherits."""
        self.app = app
        self.workers = workers
        self.port = 0
        self.scheme = "http"
        self._stderr = stderr
        path = app if isinstance(app, Path) else APPS / f"{app}.py"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name == "FANBUS_SINGLE_PROCESS"  # `make single`
            or not (name.startswith("FANBUS_") or name == "WEB_CONCURRENCY")
        }
        self._is_single = {**inherited, **environment}.get("FANBUS_SINGLE_PROCESS") == "1"
        with stderr.open("wb") as output:
            self.process = subprocess.Popen(
                [*inside, sys.executable, str(path), *arguments],
                env={
                    **inherited,
                    "PORT": "0",
                    "WORKERS": str(workers),
                    "PYTHONUNBUFFERED": "1",
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=pass_fds,
            )

    def __enter__(self) -> Server:
        """Waits until it listens."""
        try:
            self.wait_until_ready()
        except BaseException:
            self.destroy()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.destroy()

    def __str__(self) -> str:
        return f"{self.app} (PID {self.pid}, {self.workers} workers)"

    @property
    def pid(self) -> int:
        """The supervisor's."""
        return self.process.pid

    @property
    def processes(self) -> int:
        """How many of them serve."""
        return 1 if self._is_single else self.workers

    @property
    def segment(self) -> Path:
        """The file of its bus."""
        name = self.app.stem if isinstance(self.app, Path) else self.app
        return Path(f"/dev/shm/fanbus.{name}-{self.port}")

    def log(self) -> str:
        """Everything it has said so far."""
        return self._stderr.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        """Until the banner is there, which tells the port."""

        def listening() -> re.Match[str] | None:
            found = re.search(r"(https?)://127\.0\.0\.1:(\d+)", self.log())
            if found is None and self.process.poll() is not None:
                raise AssertionError(f"It ended with {self.process.returncode}:\n{self.log()}")
            return found

        self.scheme, port = wait_for(listening, "the banner").groups()
        self.port = int(port)

    def wait_for_log(self, text: str) -> None:
        """Until it has said `text`."""
        wait_for(lambda: text in self.log(), f"{text!r} on stderr")

    def worker_pids(self) -> list[int]:
        """The living workers. A single process is its own."""
        return [self.pid] if self._is_single else children(self.pid)

    def http(self) -> httpx.Client:
        """A client that opens a new connection for each request, so that all workers are met."""
        return client_of(self.port, self.scheme)

    def send_signal(self, number: signal.Signals) -> None:
        """To the supervisor only."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait(DEADLINE_S)

    def destroy(self) -> None:
        """Ends it in order; AssertionError if that does not work. Leaves no process behind."""
        in_order = True
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                in_order = False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        # Of a server that was killed, or that keeps something for its next start.
        segments.remove_of_port(self.port)
        assert in_order, f"{self} did not end on SIGTERM"


def own_memory(one: Server) -> int:
    """Bytes of the worker that are not shared and not of files."""
    (worker,) = one.worker_pids()
    found = re.search(
        r"^RssAnon:\s+(\d+) kB$", Path(f"/proc/{worker}/status").read_text(), re.MULTILINE
    )
    assert found is not None
    return int(found[1]) * 1024
