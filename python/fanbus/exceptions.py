"""The exceptions that Fanbus raises. Each message names the problem, its place and the remedy."""

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
    """The base class of all exceptions of Fanbus."""


class BusError(FanbusError, OSError):
    """A bus cannot be opened or used: it does not exist, is full, closed, removed or damaged, it
    belongs to another user, or it was opened before a fork."""


class Lagged(FanbusError):  # noqa: N818 - a fact, as is WebSocketClosed
    """A subscription was too slow: `missed` messages were overwritten before it read them.

    The number counts messages of all topics of the bus: this topic has lost at most that many. The
    subscription continues after the gap: iterate over it again.
    """

    def __init__(self, missed: int) -> None:
        super().__init__(missed)
        self.missed = missed

    def __str__(self) -> str:
        messages = "message was" if self.missed == 1 else "messages were"
        return f"{self.missed} {messages} overwritten before this subscription had read them."


class RouteError(FanbusError, ValueError):
    """A route or its handler cannot work. The decorator raises it, before the server starts."""


STARTING_FAILED = 3
"""The exit status if the application cannot start, as in uvicorn and gunicorn. A replacement would
fail in the same way."""


class StartError(FanbusError):
    """A server cannot start, or a command fails.

    `status` is the exit status for the process.
    """

    def __init__(self, message: str, *, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class HTTPError(FanbusError):
    """An error response with a status. A handler may raise it anywhere.

    A WebSocket handler that has not accepted yet, and the function of a turbo route, refuse the
    handshake with it.

    Example: `raise HTTPError(404, "No such user")`.
    """

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`detail` is the body, by default the phrase of the status.

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
        """The body of the response, unless an error handler makes another one."""
        return self.detail

    def __str__(self) -> str:
        return f"{self.status} {self.detail}"


class MissingError(HTTPError, KeyError):
    """A handler reads a name that is not in the query, the headers or the form: 400.

    It is a KeyError too, so that a handler can catch it as one.
    """

    def __init__(self, name: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, f'The request has no "{name}".')


class Problem(TypedDict):
    """One invalid value of a request."""

    loc: list[str | int]
    """Its place: `["query", "page"]`, `["body", "items", 0, "price"]`. The first item is "path",
    "query", "header", "cookie" or "body"."""
    msg: str
    """The reason."""
    type: str
    """"missing", "invalid", or a type of pydantic's errors."""


class ValidationError(HTTPError):
    """The values of a request do not match the annotations of its handler.

    Unless an error handler handles it, the response is 422 with the problems as JSON:
    `{"detail": [{"loc": ["query", "page"], "msg": "must be a whole number", "type": "invalid"}]}`.
    """

    problems: list[Problem]

    def __init__(self, problems: Sequence[Problem]) -> None:
        lines = (f"{' '.join(map(str, each['loc']))}: {each['msg']}" for each in problems)
        super().__init__(422, "; ".join(lines), headers={"content-type": "application/json"})
        self.problems = list(problems)

    @property
    def body(self) -> str:
        """The problems as JSON. `detail` has them as one line of text."""
        return to_json({"detail": self.problems}).decode()


class WebSocketClosed(FanbusError):  # noqa: N818 - a fact, not always an error
    """The WebSocket is closed: the handler cannot send or receive on it any more.

    `code` and `reason` are those of the close (RFC 6455 section 7.4). 1006: the connection broke
    without a close.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"closed with {self.code} {self.reason}".rstrip()
