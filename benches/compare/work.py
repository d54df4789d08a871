"""The work that is measured: the rows, with the path of each system."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .applications import APPLICATIONS
from .large import LARGE
from .multiplexing import MULTIPLEXING
from .rows import ACTIX, FANBUS, FASTAPI, FLOOR, GRANIAN, NOTIFY, START, WORKER, Bar, Entry, Row
from .secure import SECURE
from .sizes import MESSAGE_SIZES
from .web import WEB

# Fewer if fewer descriptors may be open. @CROWD@ stands for their number in options.
CROWD = 45_000
_ASGI, _ROBYN = "Granian ASGI", "Robyn"
_BUSTAPI, _SOCKETIFY = "BustAPI", "uWebSockets (socketify)"
_CENTRIFUGO = "Centrifugo"

_HTTP = (
    Entry(FANBUS, "/sync", "sync handler"),
    Entry(FANBUS, "/async", "async handler"),
    Entry(GRANIAN, "/"),
    Entry(_ASGI, "/"),
    Entry(FASTAPI, "/"),
    Entry(_ROBYN, "/"),
    Entry(_BUSTAPI, "/"),
    Entry(_SOCKETIFY, "/"),
    Entry(ACTIX, "/"),
    Entry(FLOOR, "/"),
)
_ECHO = (
    Entry(FANBUS, "/echo", "Python handler"),
    Entry(FANBUS, "/turbo", "turbo"),
    Entry(GRANIAN, "/echo"),
    Entry(_ASGI, "/echo"),
    Entry(FASTAPI, "/echo"),
    Entry(_ROBYN, "/echo"),
    Entry(_BUSTAPI, "/echo", "Python handler"),
    Entry(_BUSTAPI, "/turbo", "turbo"),
    Entry(_SOCKETIFY, "/echo"),
    Entry(ACTIX, "/echo"),
    Entry(FLOOR, "/echo"),
)
_NCHAN = ("--publish-url", "ws://127.0.0.1:@PORT@/pub")
_RELAY, _ROOM = Entry(FANBUS, "/relay", "relay"), Entry(FANBUS, "/room", "Python room")
_FLOOR_RELAY = Entry(FLOOR, "/relay")
_BROADCAST = (
    _RELAY,
    _ROOM,
    Entry("FastAPI and Redis", "/room"),
    Entry("nchan", "/sub", options=_NCHAN),
    Entry(
        "socket.io, cluster adapter",
        "/socket.io/?EIO=4&transport=websocket",
        # Behind Engine.IO's handshake: 40 is socket.io's connect and its answer, 42 an event.
        options=("--hello", "40", "--greeting", "40", "--envelope", '42["message","{}"]'),
    ),
    _FLOOR_RELAY,
)
_WITHIN_A_PROCESS = (
    _ROOM,
    Entry(FASTAPI, "/room"),
    Entry(_ROBYN, "/room"),
    Entry(_BUSTAPI, "/room"),
    Entry(_SOCKETIFY, "/room"),
)
_PROCESSES = (
    Entry(FANBUS, "/sync"),
    Entry(GRANIAN, "/"),
    Entry(_ASGI, "/"),
    Entry(FASTAPI, "/"),
    Entry(_ROBYN, "/"),
    Entry(_BUSTAPI, "/"),
)
_SYNC, _ASYNC, _PYTHON, _TURBO = (entry.name for entry in (*_HTTP[:2], *_ECHO[:2]))


def _broadcast(workers: int) -> Row:
    # With one process, a broadcast within the process reaches all clients.
    alone = _WITHIN_A_PROCESS[1:] if workers == 1 else ()
    return Row(
        f"broadcast, 200 subscribers, 4 publishers, 64 in flight, {_workers(workers)}",
        "fanout",
        (*_BROADCAST, *alone),
        workers=workers,
        bars={_RELAY.name: Bar(0.15)} if workers == 2 else {},
    )


def _within_a_process(workers: int) -> Row:
    return Row(
        f"delivered without a broker, 60 subscribers, 50 messages/s, {_workers(workers)}",
        "fanout",
        _WITHIN_A_PROCESS,
        # Open loop: where messages are missing, the closed one would wait for them.
        ("--subscribers", "60", "--rate", "50", "--patience", "1"),
        workers,
        "delivered",
    )


def _notify(users: int, each: int, size: int) -> Row:
    return Row(
        f"a burst: {each} messages of {size} bytes to each of {users:,} users, 2 workers",
        NOTIFY,
        (Entry(FANBUS, "/user/USER"), Entry(_CENTRIFUGO, "/connection/websocket")),
        (str(users), str(each), str(size)),
        2,
        "delivered",
    )


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


ROWS = (
    Row(
        "HTTP JSON, 64 connections",
        "http",
        _HTTP,
        bars={_SYNC: Bar(6.5), _ASYNC: Bar(7.5)},
    ),
    Row(
        "HTTP JSON, 8 connections",
        "http",
        _HTTP,
        ("--connections", "8"),
        bars={_SYNC: Bar(12), _ASYNC: Bar(12)},
    ),
    Row(
        "WebSocket echo, 64 connections, 1 in flight",
        "echo",
        _ECHO,
        bars={_PYTHON: Bar(4.8), _TURBO: Bar(1.1, FLOOR)},
    ),
    Row(
        "WebSocket echo, 64 connections, 16 in flight",
        "echo",
        _ECHO,
        ("--in-flight", "16"),
        bars={_PYTHON: Bar(1.2), _TURBO: Bar(1.1, FLOOR)},
    ),
    Row(
        "WebSocket handshakes",
        "handshake",
        _ECHO,
        # 40,000 and 50,000 per second of a core.
        bars={_PYTHON: Bar(25), _TURBO: Bar(20)},
    ),
    Row(
        "idle WebSockets, 2000",
        "idle",
        _ECHO,
        # Nothing happens in it that would take longer to see.
        ("--connections", "2000", "--seconds", "0.2", "--warmup", "0.1"),
        figure="memory",
        bars={_PYTHON: Bar(3), _TURBO: Bar(1.5)},
    ),
    *map(_broadcast, (1, 2, 4)),
    Row(
        "broadcast, 200 subscribers, 2 publishers, 16 in flight, 2 workers",
        "fanout",
        (_RELAY, Entry("nchan", "/sub", options=_NCHAN), _FLOOR_RELAY),
        ("--publishers", "2", "--in-flight", "16"),
        2,
        bars={_RELAY.name: Bar(1.2, FLOOR)},
    ),
    Row(
        "broadcast, 1000 subscribers, 100 messages/s, 2 workers",
        "fanout",
        (_RELAY, Entry("nchan", "/sub", options=_NCHAN), _FLOOR_RELAY),
        ("--subscribers", "1000", "--publishers", "1", "--rate", "100"),
        2,
        bars={_RELAY.name: Bar(3.1)},
    ),
    Row(
        f"a crowd of up to {CROWD:,}, one broadcast per second, in two processes",
        "fanout",
        (_RELAY, _ROOM, _FLOOR_RELAY),
        (
            *("--subscribers", "@CROWD@", "--publishers", "1", "--rate", "1"),
            # Ten broadcasts; and until the first has reached all, a crowd is still coming in.
            *("--seconds", "10", "--warmup", "2", "--patience", "30"),
        ),
        2,
        figure="p99",
    ),
    *map(_within_a_process, (2, 4)),
    _notify(10_000, 5, 60),
    _notify(1_000, 20, 1024),
    Row(
        "memory of one more worker",
        WORKER,
        _PROCESSES,
        figure="worker",
        # 10 MiB.
        bars={FANBUS: Bar(10.5)},
    ),
    Row("from the command to the first answer, 1 worker", START, _PROCESSES, figure="start"),
    *WEB,
    *APPLICATIONS,
    *LARGE,
    *SECURE,
    *MESSAGE_SIZES,
    *MULTIPLEXING,
)


def choose(rows: str, systems: Iterable[str]) -> list[Row]:
    """The rows whose name contains this, with the entries of these systems, or of all."""
    wanted = [system.casefold() for system in systems]
    chosen = []
    for row in ROWS:
        entries = tuple(
            entry
            for entry in row.entries
            if not wanted or any(name in entry.system.casefold() for name in wanted)
        )
        if rows.casefold() in row.name.casefold() and entries:
            bars = {entry.name: row.bars[entry.name] for entry in entries if entry.name in row.bars}
            chosen.append(replace(row, entries=entries, bars=bars))
    return chosen
