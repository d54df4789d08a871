"""What Fanbus raises. Each message is a sentence: what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TypedDict

from fanbus._core import to_json

__all__ = [
    "BusError",
    "FanbusError",
    "HTTPError",
    "Lagged",
    "MissingError",
    "Problem",
    "RouteError",
    "StartError",
    "ValidationError",
    "WebSocketClosed",
]


class FanbusError(Exception):
    """The base of everything that Fanbus raises by itself."""


class BusError(FanbusError, OSError):
    """A bus cannot be opened or used: it does not exist, is full, closed, removed, damaged, another
    user's, or was opened before a fork."""


class Lagged(FanbusError):  # noqa: N818 - a fact, as is WebSocketClosed
    """A subscription was overtaken: `missed` messages were overwritten before it read them.

    They are counted over all topics of the bus, so it is the most that this topic can have lost.
    The subscription goes on behind the gap: iterate over it again.
    """

    def __init__(self, missed: int) -> None:
        super().__init__(missed)
        self.missed = missed

    def __str__(self) -> str:
        messages = "message was" if self.missed == 1 else "messages were"
        return f"{self.missed} {messages} overwritten before this subscription had read them."


class RouteError(FanbusError, ValueError):
    """A route or its handler cannot work. Raised by the decorator, before anything is served."""


class StartError(FanbusError):
    """A server cannot start, or a command cannot do what it was asked for.

    `status` is the exit status that the process should have.
    """

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class HTTPError(FanbusError):
    """Answers the request with an error status; raise it anywhere in a handler.

    In a WebSocket handler that has not accepted yet, and in the function of a turbo route, it
    refuses the handshake with that status.

    Example: `raise HTTPError(404, "No such user")`.
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`detail` is the body, by default the status's own phrase.

        Raises ValueError if the status is not an error (400 to 599).
        """
        if not 400 <= status <= 599:
            raise ValueError(f"The status of an HTTPError must be from 400 to 599, got {status!r}.")
        if detail is None:
            try:
                detail = HTTPStatus(status).phrase
            except ValueError:
                detail = f"Error {status}"
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})

    @property
    def body(self) -> str:
        """What the client gets, unless an error handler answers."""
        return self.detail

    def __str__(self) -> str:
        return f"{self.status} {self.detail}"


class MissingError(HTTPError, KeyError):
    """A name that is not in the query, the headers or the form, where a handler needs it: 400.

    It is a KeyError too, for who wants to know.
    """

    def __init__(self, name: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, f'The request has no "{name}".')


class Problem(TypedDict):
    """One value of a request that is not what it should be."""

    loc: list[str | int]
    """Where: `["query", "page"]`, `["body", "items", 0, "price"]`. First "path", "query", "header",
    "cookie" or "body"."""
    msg: str
    """What is wrong with it."""
    type: str
    """"missing", "invalid", or what pydantic calls it."""


class ValidationError(HTTPError):
    """A request whose values are not what the annotations of its handler say.

    Unless an error handler takes it, it is answered with 422 and its problems as JSON:
    `{"detail": [{"loc": ["query", "page"], "msg": "must be a whole number", "type": "invalid"}]}`.
    """

    problems: list[Problem]

    def __init__(self, problems: Sequence[Problem]) -> None:
        told = (f"{' '.join(map(str, each['loc']))}: {each['msg']}" for each in problems)
        super().__init__(422, "; ".join(told), headers={"content-type": "application/json"})
        self.problems = list(problems)

    @property
    def body(self) -> str:
        """The problems as JSON. `detail` is the same as a sentence for people."""
        return to_json({"detail": self.problems}).decode()


class WebSocketClosed(FanbusError):  # noqa: N818 - a fact, not always an error
    """The WebSocket is closed: nothing can be sent or received on it any more.

    `code` and `reason` are those of the close (RFC 6455 section 7.4); 1006 means that the
    connection broke without one.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"closed with {self.code} {self.reason}".rstrip()
