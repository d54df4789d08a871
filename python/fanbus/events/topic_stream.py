"""The event stream (Server-Sent Events) that an HTTP handler returns to serve a topic.

The object only has the options of the stream. Rust delivers the messages from the bus to the
client.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fanbus._core import StreamEnd
from fanbus.events.event import STREAM_HEADERS, Event, check_seconds
from fanbus.headers import header_lines, missing_headers

__all__ = ["EventStream"]

_MIN_QUEUE_BYTES = 4096


class EventStream:
    """A stream of the messages of a topic, from now on, for a browser's `EventSource`.

    ```python
    @app.get("/news")
    def news():
        return EventStream("news")
    ```

    A text message becomes the `data` of an event; its line ends become line feeds. A binary message
    becomes an event of the type `binary`, in base64. Each event has an id. A client that reconnects
    sends the last id in `Last-Event-ID`, as EventSource does, and gets the messages in between,
    none of them twice. If some of them are not retained any more (see `app.topic`), or take more
    than half of `max_queue_bytes`, an event of the type `gap` comes first.

    The standard: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    __slots__ = (
        "_end",
        "headers",
        "last",
        "last_event_id",
        "max_connections",
        "max_queue_bytes",
        "ping_interval",
        "retry",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        *,
        last: int | None = None,
        last_event_id: str | None = None,
        retry: float = 3.0,
        ping_interval: float = 15.0,
        max_queue_bytes: int = 1024 * 1024,
        max_connections: int | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        """`last`: a new client first gets this number of the newest messages of the topic.
        `last_event_id`: the last event of a client that cannot send the header, for example from
        the query; the header has precedence.

        `retry`: the seconds after which a browser that has lost the stream reconnects.
        `ping_interval`: after that many seconds without a message, a comment is sent.
        `max_queue_bytes`: the maximum size of the client's outbox. A slower client is disconnected,
        and gets the rest when it reconnects. `max_connections`: the maximum number of streams of
        this route in one worker; 503 above it.

        Raises ValueError for an invalid number or header. The topic is checked after the handler
        has returned.
        """
        if last is not None and not _is_whole(last, 0):
            raise ValueError(f"last must be a number of messages, 0 or more, got {last!r}.")
        check_seconds("retry", retry)
        check_seconds("ping_interval", ping_interval)
        if not _is_whole(max_queue_bytes, _MIN_QUEUE_BYTES):
            raise ValueError(
                f"max_queue_bytes must be a number of bytes, {_MIN_QUEUE_BYTES} or more, "
                f"got {max_queue_bytes!r}."
            )
        if max_connections is not None and not _is_whole(max_connections, 1):
            raise ValueError(
                f"max_connections must be 1 or more, or None, got {max_connections!r}."
            )
        own = {"content-type": "text/event-stream", **STREAM_HEADERS}
        given = header_lines(headers)
        self._end = StreamEnd()
        self.topic = topic
        self.last = last
        self.last_event_id = last_event_id
        self.retry = float(retry)
        self.ping_interval = float(ping_interval)
        self.max_queue_bytes = max_queue_bytes
        self.max_connections = max_connections
        self.headers = given + missing_headers(given, own)

    def close(self, last: Event | None = None) -> None:
        """Ends the stream after the delivered messages and the event `last`.

        Any thread may call it. A stream that has ended stays as it is. A message that is published
        at the same time may not be delivered.

        An `EventSource` opens an ended stream again, unless the page closes it: the page should do
        so at the last event.
        """
        self._end.set(b"" if last is None else last.encode())

    def __repr__(self) -> str:
        return f"<EventStream of {self.topic!r}>"


def _is_whole(number: object, least: int) -> bool:
    is_number = isinstance(number, int) and not isinstance(number, bool)
    return is_number and least <= number < 2**63  # type: ignore[operator]
