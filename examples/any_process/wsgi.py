"""A WSGI application under gunicorn, whose event streams get messages of other processes.

gunicorn --workers 2 --threads 100 --chdir examples/any_process wsgi:app

A thread that waits for news serves no other client, so there are many threads. Without `--threads`,
one request occupies a whole worker: then clients request `/next` repeatedly.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fanbus import Bus, Lagged

PAUSE_S = 10.0
"""After this time without news a client gets a comment, so that a closed connection is noticed and
its thread is free again."""

_opening = threading.Lock()
_buses: dict[int, Bus] = {}


def bus() -> Bus:
    """The bus of this process, opened at its first use: after the fork, with `--preload` too."""
    with _opening:
        pid = os.getpid()
        if pid not in _buses:
            _buses[pid] = Bus.open(os.environ.get("FANBUS_BUS", "demo"), create=True)
        return _buses[pid]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    request = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if request == ("POST", "/news"):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        offset = bus().publish("news", body.decode())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"published as number {offset} by process {os.getpid()}\n".encode()]
    if request == ("GET", "/news"):
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events()
    if request == ("GET", "/next"):
        start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return following()
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"POST or GET /news, or GET /next\n"]


def events() -> Iterator[bytes]:
    """Server-Sent Events, for `new EventSource("/news")`, which reconnects when this ends."""
    with bus().subscribe("news") as news:
        yield f": process {os.getpid()}\n\n".encode()
        while not news.closed:
            try:
                record = news.receive(timeout=PAUSE_S)
            except Lagged as lagged:
                yield f"event: lagged\ndata: {lagged.missed}\n\n".encode()
                continue
            if record is None:
                yield b": nothing new\n\n"
                continue
            lines = str(record.message).splitlines() or [""]
            data = "".join(f"data: {line}\n" for line in lines)
            yield f"id: {record.offset}\n{data}\n".encode()


def following() -> Iterator[bytes]:
    """The next message. Messages between two requests are missed."""
    with bus().subscribe("news") as news:
        yield f"process {os.getpid()}: ".encode()
        record = news.receive(timeout=PAUSE_S)
        yield f"{record.message!s}\n".encode() if record else b"nothing new\n"
