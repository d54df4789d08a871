"""Event streams (Server-Sent Events): what an HTTP handler returns so that a client gets a topic.

It only says what is wanted. What is published goes from the bus to the client in Rust.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fanbus._core import StreamEnd
from fanbus.events.event import Event
from fanbus.headers import header_lines

__all__ = ["EventStream"]

_MOST_SECONDS = 86_400
_LEAST_QUEUE_BYTES = 4096


class EventStream:
    """The messages of a topic, from now on, as a stream of events for a browser's `EventSource`.

    ```python
    @app.get("/news")
    def news():
        return EventStream("news")
    ```

    A message of text is an event's `data`; its lines end with a line feed, whatever they ended
    with. One of bytes comes in base64, as an event called `binary`. Each has an id: a client that
    comes back gives the last one in `Last-Event-ID`, as EventSource does, and gets what was
    published meanwhile, nothing twice. If some of that is not kept any more (see `app.topic`), or
    takes more than half of `max_queue_bytes`, an event called `gap` comes first.

    Behind it: https://html.spec.whatwg.org/multipage/server-sent-events.html
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
        """`last`: a client that is new gets so many of the topic's newest messages first.
        `last_event_id`: what a client has had that cannot send the header, for example from the
        query; the header goes before it.

        `retry`: seconds after which a browser that has lost the stream comes back. `ping_interval`:
        seconds of silence after which a comment is sent. `max_queue_bytes`: what may wait for a
        client; one that is slower is cut off, and gets the rest when it comes back.
        `max_connections`: streams of this route in one worker; 503 above it.

        Raises ValueError for a number or a header that cannot be. The topic is checked when the
        handler has returned.
        """
        if last is not None and not _is_whole(last, 0):
            raise ValueError(f"last must be a number of messages, 0 or more, got {last!r}.")
        for name, seconds in (("retry", retry), ("ping_interval", ping_interval)):
            if (
                isinstance(seconds, bool)
                or not isinstance(seconds, (int, float))
                or not 0.001 <= seconds <= _MOST_SECONDS
            ):
                raise ValueError(
                    f"{name} must be a number of seconds, at most a day, got {seconds!r}."
                )
        if not _is_whole(max_queue_bytes, _LEAST_QUEUE_BYTES):
            raise ValueError(
                f"max_queue_bytes must be a number of bytes, {_LEAST_QUEUE_BYTES} or more, "
                f"got {max_queue_bytes!r}."
            )
        if max_connections is not None and not _is_whole(max_connections, 1):
            raise ValueError(
                f"max_connections must be 1 or more, or None, got {max_connections!r}."
            )
        own = {"content-type": "text/event-stream", "cache-control": "no-cache"}
        # nginx would collect what is to be there at once.
        own["x-accel-buffering"] = "no"
        given = header_lines(headers)
        names = {name.lower() for name, _ in given}
        self._end = StreamEnd()
        self.topic = topic
        self.last = last
        self.last_event_id = last_event_id
        self.retry = float(retry)
        self.ping_interval = float(ping_interval)
        self.max_queue_bytes = max_queue_bytes
        self.max_connections = max_connections
        self.headers = given + [pair for pair in own.items() if pair[0] not in names]

    def close(self, last: Event | None = None) -> None:
        """Ends the stream, from any thread, behind what has been delivered to it and the event
        `last`. It does nothing for a stream that has ended. A message that is published at the
        same time may not be delivered.

        An `EventSource` opens a stream that has ended again, unless the page closes it: let it do
        so at the last event.
        """
        self._end.set(b"" if last is None else last.encode())

    def __repr__(self) -> str:
        return f"<EventStream of {self.topic!r}>"


def _is_whole(number: object, least: int) -> bool:
    is_number = isinstance(number, int) and not isinstance(number, bool)
    return is_number and least <= number < 2**63  # type: ignore[operator]
