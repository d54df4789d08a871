"""The event that a handler writes to an event stream (Server-Sent Events)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fanbus._core import answer_json

__all__ = ["STREAM_HEADERS", "Event", "check_seconds"]

# Without the second header, nginx would buffer the events.
STREAM_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}

_MAX_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream. `data` is a str, which is sent unchanged, or any JSON value.

    `event`: its type for `addEventListener`, by default `message`. `id`: a browser that reconnects
    sends it in `Last-Event-ID`. `retry`: the seconds after which a browser reconnects.

    Raises ValueError for an `event` or `id` of several lines, an `id` with a NUL, and a `retry`
    that is not a number of seconds up to a day.
    """

    data: Any
    event: str | None = None
    id: str | None = None
    retry: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name, text in (("event", self.event), ("id", self.id)):
            if text is not None and any(character in text for character in "\r\n\0"):
                raise ValueError(f"Event: {name}={text!r} must be one line, without NUL.")
        if self.retry is not None:
            check_seconds("Event: retry", self.retry)

    def encode(self) -> bytes:
        """The event in the format of an event stream."""
        lines = []
        if self.event is not None:
            lines.append(f"event: {self.event}")
        if self.id is not None:
            lines.append(f"id: {self.id}")
        if self.retry is not None:
            lines.append(f"retry: {round(self.retry * 1000)}")
        text = self.data if isinstance(self.data, str) else answer_json(self.data).decode()
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines += [f"data: {line}" for line in text.split("\n")]
        return ("\n".join(lines) + "\n\n").encode()


def check_seconds(name: str, seconds: object) -> None:
    """Raises ValueError if `seconds` is not a number of seconds up to a day."""
    is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not is_number or not 0.001 <= seconds <= _MAX_SECONDS:  # type: ignore[operator]
        raise ValueError(f"{name} must be a number of seconds up to a day, got {seconds!r}.")
