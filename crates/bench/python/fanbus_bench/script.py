"""The WebSocket script that each connection runs: messages to send, to expect and to repeat.

It consists of lines, as a conversation does:

    connect /rooms/lobby?name=bench
    send {"id": "($CLIENT)", "text": "hello"}
    expect ($CLIENT)
    repeat
      send {"id": "($CLIENT of $TURN)", "text": "again"}
      expect ($CLIENT of $TURN)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Script", "parse", "read"]

Step = tuple[str, str]

_VERBS = "connect PATH, send TEXT, expect TEXT, or repeat"


@dataclass(frozen=True)
class Script:
    """The steps that run once, and the steps that are repeated."""

    path: str
    first: list[Step]
    again: list[Step]


def read(file: str) -> Script:
    """The script in a file. ValueError, with the line, if it cannot be read or is not a script."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--script {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"--script {file}: it is not UTF-8.") from None
    return parse(text, file)


def parse(text: str, name: str) -> Script:
    """The script in a string. Error messages contain `name`."""
    path: str | None = None
    first: list[Step] = []
    again: list[Step] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        verb, _, argument = line.strip().partition(" ")
        argument = argument.strip()
        if not verb or verb.startswith("#"):
            continue
        where = f"{name}, line {number}"
        if verb in ("send", "expect"):
            if not argument:
                raise ValueError(f"{where}: {verb} what? Write {verb} TEXT.")
            (first if again is None else again).append((verb, argument))
        elif verb == "repeat" and not argument:
            if again is not None:
                raise ValueError(
                    f"{where}: a script can have only one repeat, which goes on to its end."
                )
            again = []
        elif verb == "connect":
            path = _path(argument, where, is_first=path is None and not first and again is None)
        else:
            raise ValueError(f"{where}: {line.strip()!r} must be one of {_VERBS}.")
    if path is None:
        raise ValueError(f"{name}: a script must begin with connect PATH.")
    if not any(verb == "expect" for verb, _ in again or ()):
        raise ValueError(
            f"{name}: after repeat there must be an expect, or replies to the sent messages "
            "would not be checked."
        )
    return Script(path, first, again or [])


def _path(argument: str, where: str, *, is_first: bool) -> str:
    if not is_first:
        raise ValueError(f"{where}: connect is allowed only once, before everything else.")
    if not argument.startswith("/"):
        raise ValueError(f"{where}: connect needs a path, such as /rooms/lobby.")
    if "$" in argument:
        raise ValueError(
            f"{where}: all connections use the same path: $CLIENT and $TURN are not replaced in it."
        )
    return argument
