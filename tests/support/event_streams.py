"""The client of an event stream that tests read with, and a way to publish for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx


@dataclass
class Event:
    """One event, as the standard has it taken apart."""

    id: str
    kind: str
    data: str


class Stream:
    """What a client reads from an event stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()
        self.id = ""
        self.retry = ""
        self.comments: list[str] = []

    def block(self) -> Event | None:
        """The next block; None if it has no data, and so is no event."""
        kind = "message"
        data: list[str] = []
        for line in self._lines:
            if not line:
                return Event(self.id, kind, "\n".join(data)) if data else None
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "":
                self.comments.append(value)
            elif name == "id":
                self.id = value
            elif name == "retry":
                self.retry = value
            elif name == "event":
                kind = value
            else:
                assert name == "data", line
                data.append(value)
        raise EOFError

    def next(self) -> Event:
        while True:
            event = self.block()
            if event is not None:
                return event


@contextmanager
def listen(client: httpx.Client, path: str, last_event_id: str | None = None) -> Iterator[Stream]:
    """A stream that has begun: what is published from now on is for it."""
    headers = {} if last_event_id is None else {"last-event-id": last_event_id}
    with client.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, response.read()
        yield Stream(response)


def publish(http: httpx.Client, topic: str, message: str | bytes) -> int:
    kind = "text/plain" if isinstance(message, str) else "application/octet-stream"
    answer = http.post(f"/publish/{topic}", content=message, headers={"content-type": kind})
    return int(answer.json()["offset"])
