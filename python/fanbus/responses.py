"""The response that an HTTP handler returns if a plain value is not enough.

The Rust half reads `body`, `status`, `headers` and `trailers`.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from http import HTTPStatus
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from urllib.parse import quote

from fanbus._core import answer_json
from fanbus.headers import TOKEN, header_line, header_lines

if TYPE_CHECKING:
    from os import PathLike

    from fanbus.events.topic_stream import EventStream

__all__ = ["Response"]

Lines: TypeAlias = "Mapping[str, str] | Iterable[tuple[str, str]]"
"""Headers as an argument: a mapping or pairs."""


class Response:
    """A complete response: body, status and headers.

    ```python
    @app.get("/")
    def index():
        return Response("<h1>Hello</h1>", content_type="text/html; charset=utf-8")
    ```

    The body may be str (sent as UTF-8 text), bytes, a dict or list (sent as JSON), None, or an
    iterator of str or bytes, asynchronous or not. An iterator is sent in chunks: the next chunk is
    requested when the client has taken the earlier ones. The iterator is closed when the client
    disconnects.

    `trailers` are headers behind such a body, for clients that send `TE: trailers`: a mapping,
    which is read when the iterator has ended, or a function that returns one then. The names that a
    mapping has at the start are announced in the `Trailer` header.
    """

    __slots__ = ("body", "headers", "status", "trailers")

    body: bytes | Iterator[Any] | AsyncIterator[Any] | PurePath | EventStream
    """A path leads to a file: see `file`."""
    status: int
    headers: list[tuple[str, str]]
    trailers: Mapping[str, str] | Callable[[], Lines] | None

    def __init__(
        self,
        body: str
        | bytes
        | dict[Any, Any]
        | list[Any]
        | Iterator[str | bytes]
        | AsyncIterator[str | bytes]
        | PurePath
        | None = None,
        status: int = HTTPStatus.OK,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        content_type: str | None = None,
        *,
        trailers: Mapping[str, str] | Callable[[], Lines] | None = None,
    ) -> None:
        """Raises TypeError for a body of another type, and for trailers that are neither a mapping
        nor a function. Raises ValueError for a bad status or header, and for trailers of a body
        that is not an iterator."""
        if not 200 <= status <= 599:
            raise ValueError(f"The status of a response must be from 200 to 599, got {status!r}.")
        encoded: bytes | Iterator[Any] | AsyncIterator[Any] | PurePath
        natural_type: str | None
        if isinstance(body, str):
            encoded, natural_type = body.encode(), "text/plain; charset=utf-8"
        elif isinstance(body, (bytes, bytearray, memoryview)):
            encoded, natural_type = bytes(body), "application/octet-stream"
        elif isinstance(body, (dict, list)):
            encoded, natural_type = answer_json(body), "application/json"
        elif body is None:
            encoded, natural_type = b"", None
        elif isinstance(body, (Iterator, AsyncIterator)):
            encoded, natural_type = body, "text/plain; charset=utf-8"
        elif isinstance(body, PurePath):
            encoded, natural_type = body, None
        else:
            raise TypeError(
                "A response body is str, bytes, dict, list, None, a generator or a path, not "
                f"{type(body).__name__}."
            )
        if trailers is not None:
            _check_trailers(trailers, body)
        self.trailers = trailers
        self.body = encoded
        self.status = int(status)
        self.headers = header_lines(headers)
        content_type = content_type or (None if self.content_type else natural_type)
        if content_type:
            self.set_header("content-type", content_type)

    @classmethod
    def json(cls, value: Any, status: int = HTTPStatus.OK) -> Response:
        """Any JSON value, also a str, a number or None."""
        return cls(answer_json(value), status, content_type="application/json")

    @classmethod
    def html(cls, text: str, status: int = HTTPStatus.OK) -> Response:
        """An HTML page."""
        return cls(text, status, content_type="text/html; charset=utf-8")

    @classmethod
    def redirect(cls, location: str, status: int = HTTPStatus.FOUND) -> Response:
        """A redirect; non-ASCII characters of the location are percent-encoded."""
        if status not in (301, 302, 303, 307, 308):
            raise ValueError(
                f"The status of a redirect must be 301, 302, 303, 307 or 308, got {status}."
            )
        return cls(None, status, {"location": quote(location, safe=":/%#?=@[]!$&'()*+,;~")})

    @classmethod
    def file(
        cls,
        path: str | PathLike[str],
        *,
        download: str | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> Response:
        """A file, read and sent in Rust, with ETag, Last-Modified, ranges and 304.

        `download` makes a browser save the file under this name, instead of showing it.
        `content_type` is by default derived from the file's suffix. A path that comes from a client
        must be checked first; `app.static` does that for a folder.

        Raises FileNotFoundError if there is no such file.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, "File not found", str(path))
        response = cls(path.absolute(), headers=headers, content_type=content_type)
        if download is not None:
            plain = download.encode("ascii", "replace").decode()
            plain = "".join("_" if character in '"\\?/' else character for character in plain)
            value = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(download, safe='')}"
            response.headers.append(header_line("content-disposition", value))
        return response

    def set_etag(self, tag: str | None = None, *, weak: bool = False) -> None:
        """Sets the ETag of this version of the body, so that a client that has it gets 304.

        `tag` is by default a hash of the body. `weak`: another version with this tag may differ in
        details. Raises ValueError for a tag with quotes or other than visible ASCII characters, and
        for a body other than bytes without a tag.
        """
        if tag is None:
            if not isinstance(self.body, bytes):
                raise ValueError(
                    "An ETag can be computed only for a body of bytes: pass the ETag as a string."
                )
            from hashlib import sha256  # here, so that `import fanbus` stays small

            tag = sha256(self.body).hexdigest()[:32]
        if any(character == '"' or not 0x21 <= ord(character) < 0x7F for character in tag):
            raise ValueError(f"The ETag {tag!r} has a character that cannot be in it.")
        self.set_header("etag", f'W/"{tag}"' if weak else f'"{tag}"')

    @property
    def content_type(self) -> str | None:
        """The value of the Content-Type header."""
        return next((value for name, value in self.headers if name.lower() == "content-type"), None)

    def set_header(self, name: str, value: str) -> None:
        """Sets the only value of a header. `headers.append((name, value))` adds a further one.

        Raises ValueError for a line break, and for an empty name.
        """
        line = header_line(name, value)
        self.headers = [pair for pair in self.headers if pair[0].lower() != name.lower()]
        self.headers.append(line)

    def set_cookie(
        self,
        name: str,
        value: str = "",
        *,
        max_age: int | None = None,
        expires: datetime | None = None,
        path: str = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] | None = "lax",
    ) -> None:
        """Adds a Set-Cookie header (RFC 6265). `max_age` is in seconds.

        `samesite="none"` makes it `Secure` too, without which browsers refuse it. A cookie whose
        name begins with `__Secure-` needs `secure=True`, one with `__Host-` also the path "/" and
        no domain.

        Raises ValueError for characters that would end the cookie early, and for cookies that
        browsers refuse.
        """
        if not TOKEN.fullmatch(name):
            raise ValueError(
                f"The cookie name {name!r} has a character that cannot be in it. Use letters, "
                "digits, hyphens and underscores."
            )
        if samesite is not None:
            samesite = _same_site(name, samesite)
        secure = secure or samesite == "none"
        _check_prefix(name, path, domain, secure=secure)
        if any(character in ';, \t"\\' or not 0x20 < ord(character) < 0x7F for character in value):
            raise ValueError(
                f"The value of cookie {name!r} has a space, quote, comma, semicolon or "
                "non-ASCII character. Encode it first, for example with urllib.parse.quote."
            )
        if any(character in ";," for character in path + (domain or "")):
            raise ValueError(f"Path and domain of cookie {name!r} cannot have ';' or ','.")
        parts = [f"{name}={value}"]
        if max_age is not None:
            parts.append(f"Max-Age={int(max_age)}")
        if expires is not None:
            from email.utils import format_datetime  # here, so that `import fanbus` stays small

            parts.append(
                f"Expires={format_datetime(expires.astimezone(timezone.utc), usegmt=True)}"
            )
        parts.append(f"Path={path}")
        if domain is not None:
            parts.append(f"Domain={domain}")
        if secure:
            parts.append("Secure")
        if httponly:
            parts.append("HttpOnly")
        if samesite is not None:
            parts.append(f"SameSite={samesite.capitalize()}")
        self.headers.append(header_line("set-cookie", "; ".join(parts)))

    def delete_cookie(
        self,
        name: str,
        *,
        path: str = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: Literal["lax", "strict", "none"] | None = "lax",
    ) -> None:
        """Makes the client delete a cookie. Path and domain must be those of the cookie.

        A cookie with `samesite="none"` needs the same here: in a page of another site a browser
        ignores the deletion otherwise. `__Host-` and `__Secure-` cookies are always deleted with
        `Secure`.
        """
        self.set_cookie(
            name,
            max_age=0,
            path=path,
            domain=domain,
            secure=secure or name.lower().startswith(("__host-", "__secure-")),
            httponly=httponly,
            samesite=samesite,
        )

    def __repr__(self) -> str:
        return f"<Response {self.status} {self.content_type or 'without content type'}>"


def _check_trailers(trailers: object, body: object) -> None:
    if not isinstance(body, (Iterator, AsyncIterator)):
        raise ValueError(
            "trailers follow a streamed body: the body must be an "
            f"iterator or a generator, got {type(body).__name__}. Use headers instead."
        )
    if not isinstance(trailers, Mapping) and not callable(trailers):
        raise TypeError(
            "trailers must be a mapping that is read when the body has ended, or a function that "
            f"returns one, got {type(trailers).__name__}."
        )


def _same_site(cookie: str, given: str) -> Literal["lax", "strict", "none"]:
    for known in get_args(Literal["lax", "strict", "none"]):
        if isinstance(given, str) and given.lower() == known:
            found: Literal["lax", "strict", "none"] = known
            return found
    raise ValueError(
        f"samesite of cookie {cookie!r} must be 'lax', 'strict', 'none' or None, got {given!r}."
    )


def _check_prefix(name: str, path: str, domain: str | None, *, secure: bool) -> None:
    """Raises ValueError for a cookie whose prefix requires attributes that it lacks (RFC 6265bis,
    4.1.3): browsers refuse it."""
    prefix = next((each for each in ("__Host-", "__Secure-") if _begins(name, each)), None)
    if prefix is not None and not secure:
        raise ValueError(
            f"Browsers refuse the cookie {name!r} without Secure, because its name begins with "
            f"{prefix}: add secure=True, or rename it."
        )
    if prefix == "__Host-" and (path != "/" or domain is not None):
        raise ValueError(
            f"Browsers refuse the cookie {name!r} with a domain, or a path other than '/', because "
            "its name begins with __Host-: leave both out, or rename it."
        )


def _begins(name: str, prefix: str) -> bool:
    return name.lower().startswith(prefix.lower())
