"""Clients as people have them: the `websockets` library, and its command in a terminal."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from support.servers import DEADLINE_S, wait_for


class Listening(Protocol):
    """A server, ours or another."""

    port: int


@contextmanager
def join(server: Listening, path: str) -> Iterator[ClientConnection]:
    """A new WebSocket to the server."""
    with connect(
        f"ws://127.0.0.1:{server.port}{path}",
        max_size=None,
        open_timeout=DEADLINE_S,
        compression=None,
        proxy=None,
    ) as ws:
        yield ws


def hear(ws: ClientConnection) -> str | bytes:
    """The next message; TimeoutError if there is none."""
    return ws.recv(timeout=DEADLINE_S)


def closed_with(ws: ClientConnection) -> int | None:
    """Reads until the server closes, and returns the code."""
    with suppress(ConnectionClosed):
        while True:
            hear(ws)
    return ws.close_code


class Terminal:
    """`python -m websockets URL`, as somebody types it, and what it shows.

    The port 5000 that documentation is written for becomes the server's real one.
    """

    def __init__(self, command: str, server: Listening) -> None:
        words = shlex.split(command.replace(":5000", f":{server.port}"))
        assert words[:3] == ["python", "-m", "websockets"], command
        self._command = [sys.executable, "-W", "ignore", *words[1:]]
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
        """The line, and Enter."""
        assert self._client.stdin is not None
        self._client.stdin.write(line.encode() + b"\n")

    def shows(self, text: str) -> None:
        """Waits until the text is on the screen."""
        wait_for(lambda: text in self._read(), f"{text!r} in the terminal")

    def _read(self) -> str:
        assert self._client.stdout is not None
        self._shown += self._client.stdout.read(65536) or b""
        return self._shown.decode(errors="replace")

    def __exit__(self, *_: object) -> None:
        self._client.kill()
        self._client.communicate()
