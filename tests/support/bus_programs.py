"""Programs that use a bus from outside of any server: real processes, and a name for each test."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from fanbus import _core
from support.servers import DEADLINE_S, children, client_of, wait_for

if TYPE_CHECKING:
    from typing_extensions import Self

SMALL = 64 * 1024
"""Bytes of a ring: small ones, of which 64 fit everywhere, and which are soon full."""


def segment(name: str) -> Path:
    """The file of a bus."""
    return Path(f"/dev/shm/fanbus.{name}")


@contextmanager
def new_name() -> Iterator[str]:
    """A name that no bus has; afterwards it has none again."""
    name = f"test-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        yield name
    finally:
        segment(name).unlink(missing_ok=True)


def members(name: str) -> int:
    """How many living members a bus has."""
    return len(_core.inspect_bus(name)["members"])


def command(line: str, **replaced: str) -> list[str]:
    """A line as somebody types it, for the programs of this environment."""
    for name, value in replaced.items():
        line = line.replace(name, value)
    words = shlex.split(line)
    program = words.pop(0)
    return words if program == "python" else ["-m", program, *words]


class Program:
    """A Python program, as another process, whose lines are read as they come."""

    def __init__(
        self,
        *arguments: str,
        environment: dict[str, str] | None = None,
        python: str | Path = sys.executable,
    ) -> None:
        self.process = subprocess.Popen(
            [python, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            start_new_session=True,
        )
        self._said = {1: b"", 2: b""}
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def said(self, stream: int = 1) -> str:
        """Everything so far."""
        pipe = self.process.stdout if stream == 1 else self.process.stderr
        assert pipe is not None
        self._said[stream] += pipe.read(1 << 20) or b""
        return self._said[stream].decode(errors="replace")

    def wait_to_say(self, text: str, stream: int = 1) -> None:
        """Until it has said so. AssertionError with all that it said otherwise."""
        try:
            wait_for(lambda: text in self.said(stream), f"{text!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said(1)}\n{self.said(2)}") from None

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(DEADLINE_S)


class Service(Program):
    """A program with children, which is ended in order. Leaves no process behind."""

    def __enter__(self) -> Self:
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_until_ready(self) -> None:
        """Until it serves."""
        raise NotImplementedError

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.wait()
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            super().__exit__()


class Uvicorn(Service):
    """uvicorn with the Starlette application of examples/any_process, on a port of its own."""

    LINE = "uvicorn --workers 2 --port 0 --app-dir examples/any_process live:app"

    def __init__(self, bus: str, line: str = LINE) -> None:
        super().__init__(*command(line), environment={"FANBUS_BUS": bus})
        self.port = 0

    def wait_until_ready(self) -> None:
        # Both workers have opened the bus.
        wait_for(lambda: self.said(2).count("startup complete") == 2, "two workers")
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.said(2))
        assert found is not None
        self.port = int(found[1])


class Gunicorn(Service):
    """gunicorn with the WSGI application of examples/any_process, on a port of its own."""

    LINE = "gunicorn --workers 2 --threads 100 --chdir examples/any_process wsgi:app"

    def __init__(self, bus: str, line: str = LINE, *options: str) -> None:
        own = ("--bind", "127.0.0.1:0", "--no-control-socket", "--graceful-timeout", "1")
        words = command(line, **{"--bind 127.0.0.1:8001 ": ""})
        super().__init__(*words, *own, *options, environment={"FANBUS_BUS": bus})
        self.port = 0

    def wait_until_ready(self) -> None:
        self.wait_to_say("Listening at", stream=2)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", self.said(2))
        assert found is not None
        self.port = int(found[1])
        wait_for(lambda: len(self.workers()) == 2, "two workers")

    def workers(self) -> list[int]:
        """The living ones."""
        return children(self.process.pid)

    def http(self) -> httpx.Client:
        """A client that opens a new connection for each request."""
        return client_of(self.port)


class Celery(Service):
    """A Celery worker with two processes, and the tasks of examples/any_process."""

    LINE = (
        "celery --workdir examples/any_process --app celery_tasks"
        " worker --concurrency 2 --loglevel INFO"
    )

    def __init__(self, bus: str, folder: Path, line: str = LINE, **environment: str) -> None:
        self.environment = {"FANBUS_BUS": bus, "CELERY_FOLDER": str(folder), **environment}
        super().__init__(*command(line), environment=self.environment)

    def wait_until_ready(self) -> None:
        self.wait_to_say(" ready.", stream=2)

    def workers(self) -> list[int]:
        """The living processes of its pool."""
        return children(self.process.pid)

    def call(self, line: str) -> None:
        """Puts a task into the queue, by Celery's own command."""
        with Program(*command(line), environment=self.environment) as program:
            assert program.wait() == 0, program.said(2)
