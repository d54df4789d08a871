"""What is measured: the rows, and on which path of which system each of them is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FANBUS, FLOOR = "Fanbus", "floor"
_RSGI, _ASGI, _FASTAPI, _ROBYN = "Granian RSGI", "Granian ASGI", "FastAPI on uvicorn", "Robyn"
_BUSTAPI, _ACTIX, _SOCKETIFY = "BustAPI", "actix-web", "uWebSockets (socketify)"


@dataclass(frozen=True)
class Entry:
    """One system's share in a row."""

    system: str
    path: str
    # What tells it from another entry of the same system.
    variant: str = ""
    # What its protocol wants of the load client. @PORT@ stands for the server's port.
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.system}, {self.variant}" if self.variant else self.system


@dataclass(frozen=True)
class Row:
    """The same load for each of its entries, one after the other."""

    name: str
    mode: str
    entries: tuple[Entry, ...]
    options: tuple[str, ...] = ()
    workers: int = 1
    # The figure that counts: "cpu" of a unit, "memory" of a connection, or the share "delivered".
    figure: str = "cpu"


_HTTP = (
    Entry(FANBUS, "/sync", "sync handler"),
    Entry(FANBUS, "/async", "async handler"),
    Entry(_RSGI, "/"),
    Entry(_ASGI, "/"),
    Entry(_FASTAPI, "/"),
    Entry(_ROBYN, "/"),
    Entry(_BUSTAPI, "/"),
    Entry(_SOCKETIFY, "/"),
    Entry(_ACTIX, "/"),
    Entry(FLOOR, "/"),
)
_ECHO = (
    Entry(FANBUS, "/echo", "Python handler"),
    Entry(FANBUS, "/turbo", "turbo"),
    Entry(_RSGI, "/echo"),
    Entry(_ASGI, "/echo"),
    Entry(_FASTAPI, "/echo"),
    Entry(_ROBYN, "/echo"),
    Entry(_BUSTAPI, "/echo", "Python handler"),
    Entry(_BUSTAPI, "/turbo", "turbo"),
    Entry(_SOCKETIFY, "/echo"),
    Entry(_ACTIX, "/echo"),
    Entry(FLOOR, "/echo"),
)
_RELAY, _ROOM = Entry(FANBUS, "/relay", "relay"), Entry(FANBUS, "/room", "Python room")
_FLOOR_RELAY = Entry(FLOOR, "/relay")
_BROADCAST = (
    _RELAY,
    _ROOM,
    Entry("FastAPI and Redis", "/room"),
    Entry("nchan", "/sub", options=("--publish-url", "ws://127.0.0.1:@PORT@/pub")),
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
    Entry(_FASTAPI, "/room"),
    Entry(_ROBYN, "/room"),
    Entry(_SOCKETIFY, "/room"),
)


def _broadcast(workers: int) -> Row:
    alone = (Entry(_SOCKETIFY, "/room"),) if workers == 1 else ()
    return Row(
        f"broadcast, 200 subscribers, 4 publishers, 64 in flight, {_workers(workers)}",
        "fanout",
        (*_BROADCAST, *alone),
        workers=workers,
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


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


ROWS = (
    Row("HTTP JSON, 64 connections", "http", _HTTP),
    Row("HTTP JSON, 8 connections", "http", (_HTTP[0], _HTTP[-1]), ("--connections", "8")),
    Row("WebSocket echo, 64 connections, 1 in flight", "echo", _ECHO),
    Row("WebSocket echo, 64 connections, 16 in flight", "echo", _ECHO, ("--in-flight", "16")),
    Row("WebSocket handshakes", "handshake", _ECHO),
    Row("idle WebSockets, 2000", "idle", _ECHO, ("--connections", "2000"), figure="memory"),
    *map(_broadcast, (1, 2, 4)),
    Row(
        "broadcast, 200 subscribers, 2 publishers, 16 in flight, 2 workers",
        "fanout",
        (_RELAY, _FLOOR_RELAY),
        ("--publishers", "2", "--in-flight", "16"),
        2,
    ),
    Row(
        "broadcast, 1000 subscribers, 100 messages/s, 2 workers",
        "fanout",
        (_RELAY, _FLOOR_RELAY),
        ("--subscribers", "1000", "--publishers", "1", "--rate", "100"),
        2,
    ),
    *map(_within_a_process, (2, 4)),
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
            chosen.append(Row(row.name, row.mode, entries, row.options, row.workers, row.figure))
    return chosen
