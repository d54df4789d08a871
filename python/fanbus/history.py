"""The history of a topic: the rule that retains it, and the messages that are read from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fanbus import _core
from fanbus._core import Record
from fanbus.exceptions import FanbusError

__all__ = ["History", "RetentionRule"]

_MOST = 2**32 - 1


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
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
                raise FanbusError(
                    f"topic({pattern!r}): {option} must be an integer "
                    f"from {least} to {_MOST}, got {value!r}."
                )
        return cls(pattern, history, seconds or 0)


class History(Sequence[Record]):
    """Messages of a topic, oldest first: a sequence of records that knows whether it is complete.

    There is no hole in it: it ends with the newest message there was, and goes back without a gap
    as far as it could.
    """

    def __init__(self, records: list[Record], complete: bool, end: int, *, epoch: int) -> None:
        """Not for users: `Bus.history` and `Fanbus.history`."""
        self._records = records
        self.complete = complete
        """Whether nothing is missing of what was asked for. With `last`: so many messages, or all
        that there ever were. With `since`: all that came after that offset."""
        self.end = end
        """The offset up to which it goes: messages from here on are not in it."""
        self.epoch = epoch
        """Which life of the bus the offsets belong to."""

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return self._records[index]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def __repr__(self) -> str:
        complete = "" if self.complete else ", not complete"
        return f"<History of {len(self)} messages{complete}>"
