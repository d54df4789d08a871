"""The WebSocket that handlers get, and the limits of a WebSocket route."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from fanbus._core import WebSocket

__all__ = ["Overflow", "WebSocket", "WebSocketConfig"]

Overflow = Literal["close", "drop_oldest", "drop_newest", "latest"]

# The name of a subprotocol is a token (RFC 9110 section 5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#\s]+")

_DEFAULT_HEARTBEAT_INTERVAL_S = 25.0
_MAX_INTEGER = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class WebSocketConfig:
    """The limits of one WebSocket route. They are enforced in Rust, on every kind of frame.

    ```python
    config = WebSocketConfig(max_message_size=64 * 1024, rate_limit=50, timeout=30)

    @app.websocket("/ws", config=config)
    async def echo(ws: WebSocket): ...
    ```

    A field of the wrong type raises TypeError, a field out of its range ValueError. Both are raised
    at once and name the field.
    """

    max_message_size: int = 1024 * 1024
    """The maximum size of a client's message in bytes, over all fragments (1 to 2**31 - 1). Above
    it the connection is closed with 1009, before the message is read."""

    rate_limit: int | None = None
    """The messages, pings and pongs per second that a client may send (at least 1). A burst may
    have the number of one second. Above it the connection is closed with 1008. None: no limit."""

    heartbeat_interval: float | None = _DEFAULT_HEARTBEAT_INTERVAL_S
    """The seconds of silence after which the client gets a ping. For each client it is up to a
    tenth less, so that clients that connected together do not get pings together. None: never. If
    only `timeout` is given and is 25 or less, it is half of that."""

    timeout: float | None = 60.0
    """The seconds without a sign of life after which the WebSocket is closed with 1001, and its TCP
    connection with it. Signs of life are a message, a pong, and an acknowledgement of data that was
    sent before the last ping. None: never. It must be longer than `heartbeat_interval`."""

    tick: float | None = None
    """The interval in seconds of empty text messages to the client, regardless of other messages;
    for each client up to a tenth less. A page in a browser does not see pings. With these messages
    it knows that the connection is open, and reconnects when they are missing
    (docs/howto/reconnecting.md). None: never."""

    max_queue_bytes: int = 1024 * 1024
    """The maximum size of a client's outbox in bytes (1 to 2**31 - 1)."""

    overflow: Overflow = "close"
    """The action above `max_queue_bytes`. "close": the connection is closed with 1013, and the
    client can reconnect. "drop_oldest" and "drop_newest": messages are dropped. "latest": only the
    newest message of each topic waits, and almost no data in the send buffer of the system, so that
    a slow client gets recent messages. `ws.dropped` counts the dropped messages."""

    compression: bool = False
    """Whether clients that offer permessage-deflate (RFC 7692) get it; others get uncompressed
    messages. Messages from 128 bytes to 4 MiB are deflated if that makes them smaller. A published
    message is deflated once per worker. `max_message_size` limits inflated messages."""

    subprotocols: tuple[str, ...] = ()
    """The subprotocols of the route, in order of preference (RFC 6455 section 1.9)."""

    origins: tuple[str, ...] | None = None
    """The origins whose pages may connect, as in `("https://example.org",)`; others get 403. None:
    pages of this server (same host and port); `("*",)`: all. A client without an Origin header is
    not a browser and may connect."""

    max_connections: int | None = None
    """The maximum number of connections of this route in one worker; above it 503. None: no limit
    of its own."""

    max_topics: int = 1000
    """The maximum number of topics that one client is subscribed to at a time (at least 1). Above
    it `ws.subscribe` raises RuntimeError. A client of a turbo relay is subscribed to one topic."""

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
        self._check_names("subprotocols", _TOKEN, 'names such as ("chat.v2", "chat.v1")')
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
        """A timeout before the first ping would close every quiet client: ValueError, or a shorter
        default interval."""
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
