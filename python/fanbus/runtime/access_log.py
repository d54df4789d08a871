"""The access log that formats the notes of the I/O thread as lines, on a thread of its own.

Requests do not wait for the lines. If that thread is too slow, notes are dropped, counted, and
their number is logged.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from fanbus import _core
from fanbus.exceptions import StartError
from fanbus.runtime.logs import access, logger, on_one_line

if TYPE_CHECKING:
    from fanbus.config import Settings

__all__ = ["Note", "compile_format", "writing"]

_WAIT_S = 1.0
_ATOM = re.compile(r"%\(([^)]*)\)s|%%")


class Note(NamedTuple):
    """A note of `_core.AccessLog.take`."""

    what: str
    at: float
    took: float
    client: tuple[str, int] | None
    secure: bool
    method: str
    target: str
    version: str
    status: int
    """The status of the response, or the close code of a WebSocket."""

    bytes: int | None
    referer: str
    agent: str


def compile_format(form: str) -> Callable[[Note], str]:
    """The function that formats a note as a line. StartError for an unknown atom."""
    parts: list[str | Callable[[Note], str]] = []
    end = 0
    for match in _ATOM.finditer(form):
        parts += [form[end : match.start()], _atom(match[1]) if match[1] is not None else "%"]
        end = match.end()
    parts.append(form[end:])
    for part in parts:
        if isinstance(part, str) and "%(" in part:
            raise StartError(
                f"access_log_format: an atom must end with s, as in %(h)s, got {part.strip()!r}.",
                status=2,
            )

    def line(note: Note) -> str:
        return "".join(part if isinstance(part, str) else part(note) for part in parts)

    return line


@contextlib.contextmanager
def writing(settings: Settings) -> Iterator[_core.AccessLog | None]:
    """A queue for the notes of a worker, which are written to the logger `fanbus.access`. None if
    there is no access log. It must be called after the fork, in the process that writes."""
    if not settings.access_log:
        yield None
        return
    line = compile_format(settings.access_log_format)
    queue = _core.AccessLog()
    over = threading.Event()
    thread = threading.Thread(
        target=_write, args=(queue, line, over), name="fanbus-access-log", daemon=True
    )
    thread.start()
    try:
        yield queue
    finally:
        over.set()
        queue.end()
        thread.join(_WAIT_S * 5)  # a log that blocks must not keep the worker


def _write(queue: _core.AccessLog, line: Callable[[Note], str], over: threading.Event) -> None:
    while True:
        was_over = over.is_set()
        rows, lost = queue.take(0 if was_over else _WAIT_S)
        for row in rows:
            note = Note(*row)
            access.info("%s", line(note), extra={"access": _fields(note)})
        if lost:
            logger.warning("The access log could not keep up: %d lines are missing here.", lost)
        if was_over and not rows:
            return


def _fields(note: Note) -> dict[str, Any]:
    """The parts of a line in JSON."""
    return {
        "event": note.what,
        "client": note.client[0] if note.client else None,
        "method": note.method,
        "target": note.target,
        "scheme": _scheme(note),
        "protocol": note.version,
        "status": None if note.what == "closed" else note.status,
        "close_code": note.status if note.what == "closed" else None,
        "bytes": note.bytes,
        "seconds": round(note.took, 6),
        "referer": note.referer or None,
        "user_agent": note.agent or None,
    }


def _scheme(note: Note) -> str:
    kind = "http" if note.what == "request" else "ws"
    return f"{kind}s" if note.secure else kind


def _request_line(note: Note) -> str:
    target = on_one_line(note.target)
    if note.what == "request":
        return f"{note.method} {target} {note.version}"
    return f"WebSocket {target} {note.what}"


def _time(note: Note) -> str:
    return time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(note.at))


def _quoted(text: str) -> str:
    """The text with escapes, so that text from a client stays between its quotes."""
    return on_one_line(text).replace("\\", "\\\\").replace('"', '\\"') or "-"


def _size(note: Note) -> str:
    return "-" if note.bytes is None else str(note.bytes)


def _path(note: Note) -> str:
    return _quoted(note.target.partition("?")[0])


def _query(note: Note) -> str:
    query = note.target.partition("?")[2]
    return _quoted(query) if query else ""


# The atoms of gunicorn's `access_log_format`, without those that Fanbus has no value for.
_ATOMS: dict[str, Callable[[Note], str]] = {
    "h": lambda note: note.client[0] if note.client else "-",
    "l": lambda _: "-",
    "u": lambda _: "-",
    "t": _time,
    "r": lambda note: _request_line(note).replace('"', '\\"'),
    "m": lambda note: note.method,
    "U": _path,
    "q": _query,
    "H": lambda note: note.version,
    "s": lambda note: str(note.status),
    "B": lambda note: str(note.bytes or 0),
    "b": _size,
    "f": lambda note: _quoted(note.referer),
    "a": lambda note: _quoted(note.agent),
    "T": lambda note: str(int(note.took)),
    "M": lambda note: str(int(note.took * 1e3)),
    "D": lambda note: str(int(note.took * 1e6)),
    "L": lambda note: f"{note.took:.6f}",
    "p": lambda _: f"<{os.getpid()}>",
}


def _atom(name: str) -> Callable[[Note], str]:
    try:
        return _ATOMS[name]
    except KeyError:
        raise StartError(
            f"access_log_format: there is no atom %({name})s. There are {', '.join(_ATOMS)}.",
            status=2,
        ) from None
