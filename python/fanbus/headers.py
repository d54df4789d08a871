"""The checks of response headers: a value must not break out of its line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["TOKEN", "header_line", "header_lines", "missing_headers"]

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The names of cookies and of subprotocols (RFC 9110 section 5.6.2)."""

_FORBIDDEN = "\r\n\0"


def header_line(name: str, value: object) -> tuple[str, str]:
    """One header. ValueError if it has no name or a line break (RFC 9110 section 5.5)."""
    line = (name, str(value))
    if any(character in part for part in line for character in _FORBIDDEN) or not name:
        raise ValueError(f"The header {name!r}: {value!r} has a line break or no name.")
    return line


def header_lines(
    given: Mapping[str, str] | Iterable[tuple[str, str]] | None,
) -> list[tuple[str, str]]:
    """The headers of a mapping or of pairs, checked. ValueError as for `header_line`."""
    pairs = given.items() if isinstance(given, Mapping) else given or ()
    return [header_line(name, value) for name, value in pairs]


def missing_headers(
    given: Iterable[tuple[str, str]], defaults: Mapping[str, str]
) -> list[tuple[str, str]]:
    """The headers of `defaults`, with names in lower case, that `given` does not have."""
    names = {name.lower() for name, _ in given}
    return [pair for pair in defaults.items() if pair[0] not in names]
