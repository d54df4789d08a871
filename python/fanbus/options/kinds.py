"""The kinds of values that options have, with their parsers and their written forms.

Each kind converts a string (command line, environment) or a value (keyword, TOML) to the value in
use, or raises ValueError. `limits` completes the message "port must be ..., got x".
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Choice", "Flag", "Kind", "Names", "Networks", "Seconds", "Size", "Text", "Whole"]

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_SECONDS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Kind(Protocol):
    """The kind of an option's values."""

    @property
    def metavar(self) -> str | None:
        """The placeholder of the value in --help; None: the option takes no value."""

    @property
    def limits(self) -> str:
        """The rule for values, as the end of an error message."""

    def take(self, value: Any) -> Any:
        """The value of a keyword or of TOML. ValueError if it is invalid."""

    def parse(self, text: str) -> Any:
        """The value of a string, for example from the environment. ValueError if it is invalid."""

    def written(self, value: Any) -> str:
        """The value as a user writes it."""


@dataclass(frozen=True)
class Whole:
    """A whole number from `least` to `most`."""

    least: int
    most: int
    metavar: str = "N"

    @property
    def limits(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def take(self, value: Any) -> int:
        number = _plain_number(value)
        if not self.least <= number <= self.most:
            raise ValueError(value)
        return number

    def parse(self, text: str) -> int:
        if not re.fullmatch(r"\d{1,18}", text.strip(), re.ASCII):
            raise ValueError(text)
        return self.take(int(text))

    def written(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True)
class Seconds:
    """A time: a number of seconds, or a string with a unit, as in 90, 1.5, 500ms, 10m, 6h, 1d."""

    least: float
    most: float
    metavar: str = "SECONDS"

    @property
    def limits(self) -> str:
        span = f"from {self.written(self.least)} to {self.written(self.most)}"
        return f"a time {span}, in seconds or with a unit, as in 90, 1.5s, 10m or 6h"

    def take(self, value: Any) -> float:
        if isinstance(value, str):
            match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)", value.strip(), re.ASCII)
            if match is None:
                raise ValueError(value)
            seconds = float(match[1]) * _SECONDS[match[2]]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            seconds = float(value)
        else:
            raise ValueError(value)
        if not self.least <= seconds <= self.most:  # also false for NaN
            raise ValueError(value)
        return seconds

    def parse(self, text: str) -> float:
        return self.take(text)

    def written(self, value: float) -> str:
        for unit in ("d", "h", "m"):
            if value and value % _SECONDS[unit] == 0:
                return f"{value / _SECONDS[unit]:g}{unit}"
        return f"{value:g}s"


@dataclass(frozen=True)
class Size:
    """A size in bytes: a number, or a string such as 512K or 16M. `allowed` has the valid sizes."""

    allowed: Container[int]
    limits: str
    metavar: str = "SIZE"

    def take(self, value: Any) -> int:
        if isinstance(value, str):
            match = re.fullmatch(r"(\d+)\s*([KMG]?)(i?B)?", value.strip(), re.ASCII | re.IGNORECASE)
            if match is None:
                raise ValueError(value)
            size = int(match[1]) * _UNITS[match[2].upper()]
        else:
            size = _plain_number(value)
        if size not in self.allowed:
            raise ValueError(value)
        return size

    def parse(self, text: str) -> int:
        return self.take(text)

    def written(self, value: int) -> str:
        for unit in ("G", "M", "K"):
            if value and value % _UNITS[unit] == 0:
                return f"{value // _UNITS[unit]}{unit}"
        return str(value)


@dataclass(frozen=True)
class Flag:
    """On or off."""

    metavar: None = None
    limits: str = "true or false"

    def take(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(value)
        return value

    def parse(self, text: str) -> bool:
        word = text.strip().lower()
        if word in ("1", "true", "yes", "on"):
            return True
        if word in ("0", "false", "no", "off"):
            return False
        raise ValueError(text)

    def written(self, value: bool) -> str:
        return "true" if value else "false"


@dataclass(frozen=True)
class Choice:
    """One of several words."""

    words: Sequence[str]
    metavar: str = "WORD"

    @property
    def limits(self) -> str:
        return f"one of {', '.join(self.words)}"

    def take(self, value: Any) -> str:
        if not isinstance(value, str) or value.strip().lower() not in self.words:
            raise ValueError(value)
        return value.strip().lower()

    def parse(self, text: str) -> str:
        return self.take(text)

    def written(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Text:
    """A string that is not empty, has no control characters, and matches `pattern`."""

    metavar: str = "TEXT"
    limits: str = "a non-empty string"
    pattern: str = r".+"

    def take(self, value: Any) -> str:
        text = str(value) if hasattr(value, "__fspath__") else value
        if not isinstance(text, str) or not re.fullmatch(self.pattern, text):
            raise ValueError(value)
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            raise ValueError(value)
        return text

    def parse(self, text: str) -> str:
        return self.take(text)

    def written(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Names:
    """Several strings: repeated on the command line, a list in TOML, commas in the environment."""

    metavar: str = "NAME"
    limits: str = "a list of non-empty strings, or one string with commas"

    def take(self, value: Any) -> tuple[str, ...]:
        several = [value] if isinstance(value, str) else value
        if not isinstance(several, list | tuple):
            raise ValueError(value)
        item = Text()
        parts = [part.strip() for one in several for part in item.take(one).split(",")]
        return tuple(part for part in parts if part)

    def parse(self, text: str) -> tuple[str, ...]:
        return self.take(text)

    def written(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


@dataclass(frozen=True)
class Networks(Names):
    """Addresses and networks; `*` is all addresses."""

    metavar: str = "ADDRESS"
    limits: str = "a list of addresses or networks such as 10.0.0.0/8, or *"

    def take(self, value: Any) -> tuple[str, ...]:
        parts = super().take(value)
        return tuple(part if part == "*" else _network(part) for part in parts)


def _network(text: str) -> str:
    import ipaddress  # here, since a server without proxies does not need it

    network = ipaddress.ip_network(text, strict=False)
    return str(network.network_address if network.num_addresses == 1 else network)


def _plain_number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(value)
    return value
