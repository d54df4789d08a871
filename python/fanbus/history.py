"""The history of a topic: the rule that retains it, and the messages that a reader gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fanbus import _core
from fanbus._core import Record
from fanbus.exceptions import FanbusError

__all__ = ["History", "RetentionRule"]

_MAX_NUMBER = 2**32 - 1


@dataclass(frozen=True)
class RetentionRule:
    """How much history the bus retains of the topics that match a pattern."""

    pattern: str
    history: int
    seconds: int
    """The age limit of messages; 0: none."""

    @classmethod
    def checked(cls, pattern: Any, history: Any, seconds: Any) -> RetentionRule:
        """FanbusError if a value is invalid."""
        if not isinstance(pattern, str) or not pattern:
            raise FanbusError(
                f"topic: the pattern must be the name of a topic, got {pattern!r}. Example: "
                'app.topic("room:{room}", history=100).'
            )
        try:
            _core.check_pattern(pattern)
        except ValueError as error:
            raise FanbusError(str(error)) from None
        for option, value, least in (("history", history, 0), ("seconds", seconds, 1)):
            if option == "seconds" and value is None:
                continue
            is_integer = isinstance(value, int) and not isinstance(value, bool)
            if not is_integer or not least <= value <= _MAX_NUMBER:
                raise FanbusError(
                    f"topic({pattern!r}): {option} must be an integer "
                    f"from {least} to {_MAX_NUMBER}, got {value!r}."
                )
        return cls(pattern, history, seconds or 0)


class History(Sequence[Record]):
    """The messages of a topic, oldest first: a sequence of records.

    It has no gaps: it ends with the newest message, and goes back as far as messages were
    available. `complete` is False if older ones were not.
    """

    def __init__(self, records: list[Record], complete: bool, end: int, *, epoch: int) -> None:
        """Not for users: `Bus.history` and `Fanbus.history`."""
        self._records = records
        self.complete = complete
        """Whether it has all messages of the request. With `last`: that number of messages, or all
        that were ever published. With `since`: all messages after that offset."""
        self.end = end
        """The offset at which it ends: messages with this offset or a higher one are not in it."""
        self.epoch = epoch
        """The epoch of the bus, which the offsets belong to."""

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return self._records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __repr__(self) -> str:
        complete = "" if self.complete else ", not complete"
        return f"<History of {len(self)} messages{complete}>"
