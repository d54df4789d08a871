"""The rows of WebSockets over TLS: echo, handshakes, broadcast, and idle connections."""

from __future__ import annotations

from .rows import FANBUS, FASTAPI, GRANIAN, Entry, Row

_PYTHON, _TURBO = (
    Entry(FANBUS, "/echo", "Python handler"),
    Entry(FANBUS, "/turbo", "turbo"),
)
_ECHO = (_PYTHON, _TURBO, Entry(GRANIAN, "/echo"), Entry(FASTAPI, "/echo"))
_NCHAN = Entry("nchan", "/sub", options=("--publish-url", "wss://127.0.0.1:@PORT@/pub"))

SECURE = (
    Row(
        "WebSocket echo over TLS, 64 connections, 1 in flight",
        "echo",
        _ECHO,
        has_tls=True,
    ),
    Row("WebSocket handshakes over TLS", "handshake", _ECHO, has_tls=True),
    Row(
        "idle WebSockets over TLS, 2000",
        "idle",
        _ECHO,
        ("--connections", "2000", "--seconds", "0.2", "--warmup", "0.1"),
        figure="memory",
        has_tls=True,
    ),
    Row(
        "broadcast over TLS, 200 subscribers, 4 publishers, 64 in flight, 1 worker",
        "fanout",
        (
            Entry(FANBUS, "/relay", "relay"),
            Entry(FANBUS, "/room", "Python room"),
            _NCHAN,
            Entry(FASTAPI, "/room"),
        ),
        has_tls=True,
    ),
)
