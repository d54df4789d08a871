"""The event stream (Server-Sent Events) that sends the events of an asynchronous generator."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any

from fanbus.events.event import STREAM_HEADERS, check_seconds
from fanbus.headers import missing_headers
from fanbus.responses import Response

__all__ = ["Events"]


class Events(Response):
    """A stream of the events of an asynchronous generator, for a browser's `EventSource`.

    ```python
    @app.get("/count")
    async def count():
        async def numbers():
            for number in range(10):
                yield {"number": number}
            yield Event("the end", event="done")

        return Events(numbers())
    ```

    A str becomes the `data` of an event of the type `message`. An `Event` has its own type and id.
    Any other JSON value is sent as JSON. The stream ends when the generator returns. `EventSource`
    opens an ended stream again, unless the page closes it: mark the last event, so that the page
    can do so. When the client disconnects, the generator is cancelled where it waits, and its
    `finally` runs.

    The standard: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    def __init__(
        self,
        events: AsyncIterable[Any],
        *,
        retry: float | None = None,
        ping_interval: float = 15.0,
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        """`retry`: the seconds after which a browser that has lost the stream opens it again; None:
        the browser decides. `ping_interval`: after that many seconds without an event, a comment is
        sent.

        Raises TypeError if `events` is not an asynchronous iterable, and ValueError for seconds
        that are not a number up to a day.
        """
        if not isinstance(events, AsyncIterable):
            raise TypeError(
                "Events: events must be an asynchronous generator (`async def` with `yield`, "
                f"called), got {type(events).__name__}."
            )
        if retry is not None:
            check_seconds("Events: retry", retry)
        check_seconds("Events: ping_interval", ping_interval)
        from fanbus.events.feed import encoded  # here, so that `import fanbus` stays fast

        chunks = encoded(events, retry, float(ping_interval))
        super().__init__(chunks, status, headers, content_type="text/event-stream")
        self.headers += missing_headers(self.headers, STREAM_HEADERS)
