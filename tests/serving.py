"""Real servers for tests: a Python program in a process of its own, on a free port of loopback.

It knows nothing about Fanbus except that such a program listens, and ends when it is asked to.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).parent.parent
PATIENCE_S = 20.0
"""How long a test waits for anything before it fails."""

_T = TypeVar("_T")


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], _T], what: str) -> _T:
    """The first true result of `condition`; fails when PATIENCE_S have passed without one."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, f"After {PATIENCE_S:g} s: {what}"
        time.sleep(0.02)


class Server:
    """A Python program that listens on `port`, from entering the `with` block to leaving it.

    `forced` runs a program whose port is written into it: see `serve_on.py`.
    """

    def __init__(
        self,
        program: Path,
        *,
        port: int | None = None,
        forced: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self._environment = {**os.environ, **(environment or {}), "PORT": str(self.port)}
        wrapper = [str(ROOT / "tests" / "serve_on.py"), str(self.port)] if forced else []
        self._command = [sys.executable, *wrapper, str(program)]
        self._process: subprocess.Popen[str] | None = None
        self.output = ""
        """What it wrote to stdout and stderr; known when it has ended."""

    def start(self) -> Server:
        self._process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        until(self._listens_or_ended, f"{self._command[-1]} does not listen on {self.port}")
        if self._process.poll() is not None:
            self.output = self._process.communicate()[0]
            raise AssertionError(f"{self._command[-1]} ended at once:\n{self.output}")
        return self

    def stop(self) -> int:
        """Asks it to end, as Ctrl+C does, and returns its exit status."""
        process = self._process
        assert process is not None, "stop() comes after start()"
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            self.output, _ = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            self.output, _ = process.communicate()
            raise AssertionError(
                f"{self._command[-1]} did not end within {PATIENCE_S:g} s:\n{self.output}"
            ) from None
        return process.returncode

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def websocket(self, path: str) -> ClientConnection:
        """A new WebSocket, with room for every message that a test sends."""
        return connect(
            f"ws://127.0.0.1:{self.port}{path}",
            max_size=None,
            open_timeout=PATIENCE_S,
            compression=None,
            proxy=None,
        )

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _listens_or_ended(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            return True
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Terminal:
    """`python -m websockets URL`, as somebody types it, and what it shows."""

    def __init__(self, command: list[str]) -> None:
        assert command[:3] == ["python", "-m", "websockets"], command
        self._command = [sys.executable, "-W", "ignore", *command[1:]]
        self._shown = b""

    def __enter__(self) -> Terminal:
        self._client = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        assert self._client.stdout is not None
        os.set_blocking(self._client.stdout.fileno(), False)
        self.shows("Connected to")
        return self

    def types(self, line: str) -> None:
        assert self._client.stdin is not None
        self._client.stdin.write(line.encode() + b"\n")

    def shows(self, text: str) -> None:
        until(lambda: text in self._read(), f"the terminal does not show {text!r}")

    def _read(self) -> str:
        assert self._client.stdout is not None
        self._shown += self._client.stdout.read(65536) or b""
        return self._shown.decode(errors="replace")

    def __exit__(self, *_: object) -> None:
        self._client.kill()
        self._client.communicate()
