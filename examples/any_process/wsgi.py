"""A WSGI application under gunicorn. Its event streams get what other workers and scripts publish.

gunicorn --workers 2 --threads 100 --chdir examples/any_process wsgi:app

A thread that waits for news serves nobody else meanwhile, so there are many of them. Without
`--threads`, one request holds a whole worker: then clients ask for `/next` again and again.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fanbus import Bus, Lagged

PAUSE_S = 10.0
"""After so much silence a client gets something to read, lest a gone one keeps its thread."""

_opening = threading.Lock()
_buses: dict[int, Bus] = {}


def bus() -> Bus:
    """This process's bus, opened when it is first needed: after the fork, with `--preload` too."""
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
    """Server-Sent Events, for `new EventSource("/news")`, which comes back when this ends."""
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
    """One message, as soon as there is one. What comes between two requests is not seen."""
    with bus().subscribe("news") as news:
        yield f"process {os.getpid()}: ".encode()
        record = news.receive(timeout=PAUSE_S)
        yield f"{record.message!s}\n".encode() if record else b"nothing new\n"
