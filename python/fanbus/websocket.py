"""The configuration that limits a WebSocket route; and the WebSocket that handlers get."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from fanbus._core import WebSocket
from fanbus.headers import TOKEN

__all__ = ["Overflow", "WebSocket", "WebSocketConfig"]

Overflow = Literal["close", "drop_oldest", "drop_newest", "latest"]

_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#\s]+")

_DEFAULT_HEARTBEAT_INTERVAL_S = 25.0
_MAX_INTEGER = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class WebSocketConfig:
    """The limits of one WebSocket route. Rust enforces them, on every kind of frame.

    ```python
    config = WebSocketConfig(max_message_size=64 * 1024, rate_limit=50, timeout=30)

    @app.websocket("/ws", config=config)
    async def echo(ws: WebSocket): ...
    ```

    The constructor raises TypeError for a field of the wrong type, and ValueError for a field out
    of its range, each with the field's name.
    """

    max_message_size: int = 1024 * 1024
    """Bytes of the largest message that a client may send, over all its fragments (1 to
    2**31 - 1). Above it the connection is closed with 1009, before the message is read."""

    rate_limit: int | None = None
    """Messages, pings and pongs that a client may send per second (at least 1); a burst may have as
    many at once. Above it the connection is closed with 1008. None: no limit."""

    heartbeat_interval: float | None = _DEFAULT_HEARTBEAT_INTERVAL_S
    """Seconds of silence after which a ping is sent; for each client up to a tenth less, so that
    clients that connected together do not get their pings together. None: no pings. If only
    `timeout` is given and is 25 or less, the interval is half of the timeout."""

    timeout: float | None = 60.0
    """Seconds without a sign of life, after which the session is closed with 1001, and its TCP
    connection is closed, too. Signs of life are messages, pongs, and reads of bytes that were sent
    before the last ping. None: never. Must be longer than `heartbeat_interval`."""

    tick: float | None = None
    """Seconds between empty text messages to the client, even if other messages are sent; for each
    client up to a tenth less. A browser's page sees no pings: these messages show it that the
    connection works, and it reconnects without them (docs/howto/reconnecting.md). None: none are
    sent."""

    max_queue_bytes: int = 1024 * 1024
    """Bytes that may be queued for a client that reads too slowly (1 to 2**31 - 1)."""

    overflow: Overflow = "close"
    """The policy above `max_queue_bytes`. "close": the connection is closed with 1013, so that the
    client can reconnect; "drop_oldest" and "drop_newest": messages are dropped; "latest": only the
    newest message of each topic is queued, and the system's send buffer is small, so that a slow
    client gets current messages. `ws.dropped` counts the dropped messages."""

    compression: bool = False
    """Whether clients that offer permessage-deflate (RFC 7692) get it; other clients are served
    without it. Messages from 128 bytes to 4 MiB are deflated if that makes them smaller. A
    published message is deflated once per worker for all its clients. `max_message_size` applies to
    inflated messages."""

    subprotocols: tuple[str, ...] = ()
    """Subprotocols of the route, the preferred one first (RFC 6455 section 1.9)."""

    origins: tuple[str, ...] | None = None
    """Origins whose pages may connect, for example `("https://example.org",)`; others get 403.
    None: pages of this server (same host and port); `("*",)`: all. A client that sends no Origin is
    not a browser and may connect."""

    max_connections: int | None = None
    """Connections on this route in one worker; a further one gets 503. None: the route has no limit
    of its own."""

    max_topics: int = 1000
    """Topics that one client may be subscribed to at a time (at least 1). For a further one
    `ws.subscribe` raises RuntimeError. A turbo relay's client is subscribed to its one topic."""

    def __post_init__(self) -> None:
        self._check_integer("max_message_size", maximum=_MAX_INTEGER)
        self._check_integer("max_queue_bytes", maximum=_MAX_INTEGER)
        self._check_integer("rate_limit", optional=True)
        self._check_integer("max_connections", optional=True)
        self._check_integer("max_topics", maximum=_MAX_INTEGER)
        self._check_seconds("heartbeat_interval")
        self._check_seconds("timeout")
        self._check_seconds("tick")
        self._check_heartbeat_against_timeout()
        if self.overflow not in get_args(Overflow):
            choices = ", ".join(repr(choice) for choice in get_args(Overflow))
            raise ValueError(self._must_be("overflow", f"one of {choices}"))
        if not isinstance(self.compression, bool):
            raise TypeError(self._must_be("compression", "True or False"))
        self._check_names("subprotocols", TOKEN, 'names such as ("chat.v2", "chat.v1")')
        if self.origins is not None:
            self._check_names("origins", _ORIGIN, 'origins such as ("https://example.org",)')

    def _must_be(self, field: str, rule: str) -> str:
        return f"WebSocketConfig: {field} must be {rule}, got {getattr(self, field)!r}."

    def _check_integer(
        self, field: str, *, optional: bool = False, maximum: int | None = None
    ) -> None:
        value = getattr(self, field)
        if value is None and optional:
            return
        if not isinstance(value, int) or isinstance(value, bool):
            hint = " or None" if optional else ""
            raise TypeError(self._must_be(field, f"an integer{hint}"))
        if value < 1:
            raise ValueError(self._must_be(field, "at least 1"))
        if maximum is not None and value > maximum:
            raise ValueError(self._must_be(field, f"at most {maximum}"))

    def _check_seconds(self, field: str) -> None:
        value = getattr(self, field)
        if value is None:
            return
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise TypeError(self._must_be(field, "a number of seconds, or None"))
        if not 0.001 <= value <= 7 * 24 * 3600:
            raise ValueError(self._must_be(field, "between 0.001 seconds and 7 days"))
        object.__setattr__(self, field, float(value))

    def _check_heartbeat_against_timeout(self) -> None:
        """A timeout before the first ping would close every quiet client."""
        interval, timeout = self.heartbeat_interval, self.timeout
        if interval is None or timeout is None or interval < timeout:
            return
        if interval != _DEFAULT_HEARTBEAT_INTERVAL_S:
            raise ValueError(
                self._must_be("heartbeat_interval", f"shorter than the timeout ({timeout:g} s)")
            )
        object.__setattr__(self, "heartbeat_interval", timeout / 2)

    def _check_names(self, field: str, pattern: re.Pattern[str], example: str) -> None:
        value: Any = getattr(self, field)
        if isinstance(value, (str, bytes)) or not isinstance(value, (list, tuple, set, frozenset)):
            raise TypeError(self._must_be(field, f"a tuple of {example}"))
        for name in value:
            if not isinstance(name, str) or not pattern.fullmatch(name):
                raise ValueError(self._must_be(field, f"a tuple of {example}"))
        object.__setattr__(self, field, tuple(value))

    def __repr__(self) -> str:
        """The fields that differ from the defaults."""
        changed = (
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        )
        return f"WebSocketConfig({', '.join(changed)})"
