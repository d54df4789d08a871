"""The scalars that strings of a request are converted to: for each type a reader and a schema.

Both are side by side here, so that the OpenAPI document describes the behaviour of the server. A
reader raises ValueError for a wrong string; its message follows the name of the parameter: "must be
a whole number".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import Any, Literal, get_args, get_origin
from uuid import UUID

__all__ = ["Scalar", "limited", "scalar"]

Read = Callable[[str], Any]

# Most versions of int() refuse more digits, since the conversion would take too long.
_MAX_DIGITS = 4300

# int(), float() and so on accept more: underscores, digits of other scripts, spaces, "nan".
_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATETIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:\.([0-9]+))?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})?"
)
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


@dataclass(frozen=True)
class Scalar:
    """A type whose values are read from one string."""

    read: Read
    schema: Mapping[str, Any]


def _integer(text: str) -> int:
    digits = text[1:] if text[:1] == "-" else text  # a regular expression would take twice as long
    if digits.isdecimal() and digits.isascii() and len(digits) <= _MAX_DIGITS:
        return int(text)
    raise ValueError("must be a whole number")


def _number(text: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    if math.isinf(number):
        raise ValueError("must be a number")
    return number


def _boolean(text: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise ValueError("must be true or false")
    return value


def _uuid(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise ValueError("must be a UUID with its hyphens")
    return UUID(text)


def _date(text: str) -> date:
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:  # 2024-02-30
        pass
    raise ValueError("must be a date, as 2030-12-31")


def _datetime(text: str) -> datetime:
    match = _DATETIME.fullmatch(text)
    try:
        if match:
            day, time, fraction, zone = match.groups("")
            fraction = f".{fraction:0<6.6}" if fraction else ""
            time = time if time.count(":") == 2 else f"{time}:00"
            zone = "+00:00" if zone in ("Z", "z") else zone
            return datetime.fromisoformat(f"{day}T{time}{fraction}{zone}")
    except ValueError:
        pass
    hint = " (in a URL, + is written as %2B)" if " " in text.strip()[11:] else ""
    raise ValueError(f"must be a date and time, as 2030-12-31T23:59:59Z{hint}")


_TYPES: dict[Any, Scalar] = {
    str: Scalar(str, {"type": "string"}),
    int: Scalar(_integer, {"type": "integer"}),
    float: Scalar(_number, {"type": "number"}),
    bool: Scalar(_boolean, {"type": "boolean"}),
    UUID: Scalar(_uuid, {"type": "string", "format": "uuid"}),
    date: Scalar(_date, {"type": "string", "format": "date"}),
    datetime: Scalar(_datetime, {"type": "string", "format": "date-time"}),
}


def scalar(annotation: Any) -> Scalar | None:
    """The reader and schema of a type; None if it cannot be read from one string."""
    if get_origin(annotation) is Literal:
        return _chosen({value: value for value in get_args(annotation)})
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _chosen({member.value: member for member in annotation})
    try:
        return _TYPES.get(annotation)
    except TypeError:  # not hashable
        return None


def _chosen(values: Mapping[Any, Any]) -> Scalar | None:
    """A choice of values, by their forms in JSON."""
    if not values or any(type(value) not in (str, int) for value in values):
        return None
    by_text = {str(value): meant for value, meant in values.items()}
    if len(by_text) < len(values):  # 1 and "1"
        return None
    choices = ", ".join(by_text)

    def read(text: str) -> Any:
        try:
            return by_text[text]
        except KeyError:
            raise ValueError(f"must be one of {choices}") from None

    kinds = {type(value) for value in values}
    names = {"type": "string" if kinds == {str} else "integer"} if len(kinds) == 1 else {}
    return Scalar(read, {**names, "enum": list(values)})


def limited(
    read: Callable[[Any], Any], schema: Mapping[str, Any], limits: Mapping[str, Any]
) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    """A reader that also checks limits, and a schema with these limits.

    Raises ValueError for a limit that does not apply to the type.
    """
    if not limits:
        return read, dict(schema)
    kind = None if {"format", "enum"} & schema.keys() else schema.get("type")
    checks: list[tuple[Callable[[Any], bool], str]] = []
    limited_schema: dict[str, Any] = dict(schema)
    for name, limit in limits.items():
        keyword, check, message = _limit(name, limit, kind)
        limited_schema[keyword] = limit
        checks.append((check, message))

    def checked(given: Any) -> Any:
        value = read(given)
        for is_valid, message in checks:
            if not is_valid(value):
                raise ValueError(message)
        return value

    return checked, limited_schema


def _limit(name: str, limit: Any, kind: str | None) -> tuple[str, Callable[[Any], bool], str]:
    """The keyword of a limit in a schema, its check, and the error message."""
    if kind in ("integer", "number"):
        if name == "gt":
            return "exclusiveMinimum", lambda value: value > limit, f"must be more than {limit}"
        if name == "ge":
            return "minimum", lambda value: value >= limit, f"must be {limit} or more"
        if name == "lt":
            return "exclusiveMaximum", lambda value: value < limit, f"must be less than {limit}"
        if name == "le":
            return "maximum", lambda value: value <= limit, f"must be {limit} or less"
        if name == "multiple_of":
            text = f"must be a multiple of {limit}"
            return "multipleOf", lambda value: value % limit == 0, text
    if kind in ("string", "array"):
        unit, size = ("characters", "Length") if kind == "string" else ("items", "Items")
        if name == "min_length":
            return (
                f"min{size}",
                lambda value: len(value) >= limit,
                f"must have {limit} {unit} or more",
            )
        if name == "max_length":
            return (
                f"max{size}",
                lambda value: len(value) <= limit,
                f"must have {limit} {unit} or fewer",
            )
    if name == "pattern" and kind == "string":
        try:
            search = re.compile(limit).search
        except re.error as error:
            raise ValueError(f"pattern={limit!r} is not a regular expression: {error}") from None
        return "pattern", lambda value: search(value) is not None, f"must match {limit}"
    raise ValueError(f"{name}={limit!r} does not apply to {kind or 'this type'}")
