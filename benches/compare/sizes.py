"""The rows of messages by size and kind, and of a broadcast beside ordinary requests."""

from __future__ import annotations

from .rows import FANBUS, FASTAPI, FLOOR, GRANIAN, Entry, Row

_PYTHON, _TURBO = (
    Entry(FANBUS, "/echo", "Python handler"),
    Entry(FANBUS, "/turbo", "turbo"),
)
_RELAY, _ROOM = Entry(FANBUS, "/relay", "relay"), Entry(FANBUS, "/room", "Python room")
_ECHO = (_PYTHON, _TURBO, Entry(GRANIAN, "/echo"), Entry(FASTAPI, "/echo"), Entry(FLOOR, "/echo"))


def _echo(name: str, size: int, *options: str, entries: tuple[Entry, ...] = _ECHO) -> Row:
    return Row(
        f"WebSocket echo of {name}, 64 connections, 1 in flight",
        "echo",
        entries,
        ("--bytes", str(size), *options),
    )


def _broadcast(name: str, size: int, in_flight: int) -> Row:
    """Few in flight: the queue of a subscriber must stay below the limits of every system."""
    return Row(
        f"broadcast of {name}, 50 subscribers, 1 publisher, {in_flight} in flight, 1 worker",
        "fanout",
        (_RELAY, _ROOM, Entry(FASTAPI, "/room"), Entry(FLOOR, "/relay")),
        (
            *("--subscribers", "50", "--publishers", "1", "--in-flight", str(in_flight)),
            *("--bytes", str(size)),
        ),
    )


MESSAGE_SIZES = (
    # The least that a message of the load client may have is 22 bytes: its number and the time.
    _echo("32 bytes", 32),
    _echo("1 KiB", 1 << 10),
    _echo("16 KiB", 16 << 10),
    # FastAPI's example takes text only.
    _echo(
        "1 KiB, binary",
        1 << 10,
        "--binary",
        entries=tuple(entry for entry in _ECHO if entry.system != FASTAPI),
    ),
    _broadcast("1 KiB", 1 << 10, 16),
    _broadcast("64 KiB", 64 << 10, 4),
    _broadcast("1 MiB", 1 << 20, 1),
    Row(
        "broadcast of JSON of 1 KiB, permessage-deflate, 200 subscribers, 16 in flight, 1 worker",
        "fanout",
        (Entry(FANBUS, "/relay/deflating", "relay"), Entry(FASTAPI, "/room")),
        ("--compressed", "--records", "--bytes", "1024", "--in-flight", "16"),
    ),
    Row(
        "broadcast, 100 messages/s to 200 subscribers, beside JSON as fast as it goes, 1 worker",
        "fanout",
        (_RELAY, _ROOM, Entry(FASTAPI, "/room")),
        ("--publishers", "1", "--rate", "100"),
        figure="p99",
        beside="/async",
    ),
)
