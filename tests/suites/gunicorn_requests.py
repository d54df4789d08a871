"""The raw requests of gunicorn's source package: `make suites`.

Each is sent whole and byte by byte. A valid one has to be understood as gunicorn says; an invalid
one has to be refused, or left without an answer if its end never comes. Then all of them go through
nginx, and the server may not see more requests than nginx sends it.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from support.behind_nginx import exchanged, fronted
from support.servers import Server

_LIMIT = "Fanbus has other limits for heads."
_LENIENT = "A recipient may take it (RFC 9112 2.2), and nginx does."
_TRAILERS = "Trailers of a request are dropped, so that they can do no harm (RFC 9110 6.5.1)."
_CODINGS = "Of transfer codings, only chunked is understood here (RFC 9112 6.1)."
OTHERWISE = {
    "invalid/006": ([200], _LIMIT),
    "invalid/007": ([200], _LIMIT),
    "invalid/008": ([200], _LIMIT),
    "invalid/010": ([200], _LIMIT),
    "invalid/011": ([200], _LIMIT),
    "invalid/012": ([200], _LIMIT),
    "invalid/017": ([200], _LIMIT),
    "invalid/limit_header_default_01": ([200], _LIMIT),
    "invalid/041": ([200], "The first Content-Type counts: it has no part in the framing."),
    "invalid/chunked_09": ([200], "Some clients pad a chunk's size, and nginx takes it."),
    "invalid/rfc9110_trailer_forbidden_cl_01": ([200], _TRAILERS),
    "invalid/rfc9110_trailer_forbidden_host_01": ([200], _TRAILERS),
    "invalid/rfc9110_trailer_forbidden_te_01": ([200], _TRAILERS),
    "invalid/rfc9112_bare_lf_01": ([200], _LENIENT),
    "invalid/rfc9112_leading_crlf_02": ([200], _LENIENT),
    "invalid/rfc9112_target_non_ascii_02": ([200], "UTF-8 in a target is taken, as nginx does."),
    "valid/025": ([400], _CODINGS),
    "valid/025_line": ([501], _CODINGS),
    "valid/029": ([400], _CODINGS),
    "valid/030": ([400], _CODINGS),
    "valid/031": ([405], "The application has no such method."),
    "valid/040": ([200], "Names with underscores are not made into variables here."),
    "valid/099": ([400], "The body is shorter than its Content-Length."),
    "valid/rfc9112_smuggle_gzip_chunked_01": ([501], _CODINGS),
    "valid/rfc9112_smuggle_te_identity_chunked_01": ([501], _CODINGS),
    "valid/rfc9112_target_absolute_userinfo_01": (
        [400],
        "A name and password in a target are taken for an error (RFC 9110 4.2.4).",
    ),
    "valid/rfc9112_target_asterisk_options_01": ([204], "The server itself answers OPTIONS *."),
    "valid/rfc9112_target_authority_connect_01": ([501], "Fanbus opens no tunnels."),
    "valid/rfc9112_target_authority_ipv6_01": ([501], "Fanbus opens no tunnels."),
}
"""Where Fanbus decides otherwise than gunicorn: the statuses of its answers, and why."""


@dataclass(frozen=True)
class Case:
    """A raw request, or several in a row."""

    name: str
    data: bytes
    expected: list[dict[str, Any]]
    """What is to be understood; nothing, if it is to be refused."""
    option: str | None
    """One of gunicorn that it is meant for, and that Fanbus does not have."""


class Settings:
    """Stands in for gunicorn's configuration: the options that a case sets."""

    def __init__(self) -> None:
        self.options: dict[str, object] = {}

    def set(self, name: str, value: object) -> None:
        """As gunicorn's."""
        self.options[name] = value


def uri(raw: str) -> str:
    """What Fanbus gives of a target: it is not taken apart here."""
    return raw


def cases(package: Path) -> Iterator[Case]:
    """All of them, from the package's tar file."""
    with tarfile.open(package) as tar:
        files = {
            "/".join(name.split("/")[1:]): name
            for name in tar.getnames()
            if "/tests/requests/" in name
        }

        def read(name: str) -> bytes:
            file = tar.extractfile(files[name])
            assert file is not None
            return file.read()

        for name in sorted(files):
            if name.endswith(".http"):
                kind, stem = name.split("/")[-2], name.removesuffix(".http")
                settings, expected = described(read(f"{stem}.py").decode())
                option = next((one for one in settings.options if "limit" not in one), None)
                yield Case(
                    f"{kind}/{stem.split('/')[-1]}",
                    decoded(read(name)),
                    expected if kind == "valid" else [],
                    option,
                )


def described(source: str) -> tuple[Settings, list[dict[str, Any]]]:
    """What the Python file beside a request says of it."""
    settings = Settings()
    # Its errors stand for nothing here.
    source = re.sub(
        r"^from gunicorn\S*errors import (\w+)$", r"\1 = None", source, flags=re.MULTILINE
    )
    source = re.sub(r"^from gunicorn.config import Config$", "", source, flags=re.MULTILINE)
    names: dict[str, Any] = {"uri": uri, "cfg": settings, "Config": lambda: settings}
    exec(source, names)
    request = names["request"]
    if isinstance(request, dict):
        return settings, [request]
    return settings, request if isinstance(request, list) else []


def decoded(written: bytes) -> bytes:
    """Its bytes: line ends are written as escapes, and those of the file mean nothing."""
    escapes = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0"}

    def meant(match: re.Match[bytes]) -> bytes:
        hexadecimal = match[1]
        return bytes.fromhex(hexadecimal.decode()) if hexadecimal else escapes[match[2]]

    return re.sub(rb"\\(?:x([0-9A-Fa-f]{2})|([rnt0]))", meant, written.replace(b"\n", b""))


def hosted(data: bytes) -> bytes:
    """With a Host in each request of HTTP/1.1: gunicorn does not ask for one, RFC 9112 3.2 does."""

    def head(match: re.Match[bytes]) -> bytes:
        has_one = re.search(rb"\r\nhost[ \t]*:", match[0], re.IGNORECASE)
        return match[0] if has_one else match[1] + b"Host: added\r\n" + match[2]

    if data.startswith(b"GET /first HTTP/1.0\r\nContent-Length: 24\r\n"):
        return data  # What looks like a second request is the body of the first.
    return re.sub(rb"([^\r\n]+ HTTP/1\.1\r\n)(\r\n|(?s:.)*?\r\n\r\n)", head, data)


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    body: bytes


def answers(port: int, data: bytes, step: int) -> list[Answer]:
    """All that the server answers, until it closes the connection."""
    received = exchanged(port, data, step)
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        size = int(length[1]) if length else 0
        found.append(Answer(int(head.split()[1]), rest[:size]))
        received = rest[size:]
    return found


def understood(answer: Answer) -> dict[str, Any]:
    """What the application saw of a request, in gunicorn's words."""
    seen: dict[str, Any] = json.loads(answer.body)
    seen["headers"] = [header for header in seen["headers"] if header != ["HOST", "added"]]
    return seen


def meant(expected: dict[str, Any]) -> dict[str, Any]:
    """What gunicorn says that the application should see."""
    target = re.sub(r"^https?://[^/]*", "", expected["uri"]).split("#")[0]
    path, _, query = target.partition("?")
    body = expected["body"]
    return {
        "method": expected["method"],
        "path": unquote(path),
        "query": query,
        "version": list(expected["version"]),
        "headers": [[name, utf8(value)] for name, value in expected["headers"]],
        "body": body if isinstance(body, str) else body.decode("latin-1"),
    }


def utf8(value: str) -> str:
    """A header's value as Fanbus gives it: gunicorn gives latin-1, as WSGI wants it."""
    return value.encode("latin-1").decode()


def fault(case: Case, found: list[Answer]) -> str | None:
    """What is wrong with the answers."""
    statuses = [answer.status for answer in found]
    if case.name in OTHERWISE:
        wanted, _ = OTHERWISE[case.name]
        return None if statuses == wanted else f"answered {statuses}, and not {wanted}"
    if not case.expected:
        refused = not statuses or statuses[-1] >= 400
        return None if refused else f"answered {statuses}"
    if statuses != [200] * len(case.expected):
        return f"answered {statuses}: {found[-1].body[:200]!r}" if found else "no answer"
    for answer, expected in zip(found, case.expected, strict=True):
        seen, right = understood(answer), meant(expected)
        if seen != right:
            return "\n    ".join(
                f"{key}: {seen[key]!r}, and not {right[key]!r}"
                for key in right
                if seen[key] != right[key]
            )
    return None


def directly(all_cases: list[Case], folder: Path) -> int:
    """How many of them are not answered as they should be."""
    failed = 0
    with Server("mirror", workers=1, environment={}, stderr=folder / "err") as server:
        for case in all_cases:
            data = hosted(case.data)
            for step in (len(data), 1):
                wrong = fault(case, answers(server.port, data, step))
                if wrong is not None:
                    failed += 1
                    print(f"FAILED {case.name}, {step} bytes at a time: {wrong}")
                    break
    return failed


def behind_nginx(all_cases: list[Case], folder: Path, *, buffers: bool) -> None:
    """AssertionError if the server sees more requests than nginx sends it."""
    with fronted(folder, buffers=buffers) as both:
        for number, case in enumerate(all_cases):
            data = hosted(case.data)
            for step in (len(data), 1):
                both.tell(data, step)
            both.check(number)
        print(
            f"Behind nginx, {'with' if buffers else 'without'} buffers: "
            f"{both.handed_on()} requests sent by it, {len(both.seen())} seen by the application."
        )


def main() -> int:
    """Its exit status: 1 if a request was not answered as it should be."""
    tried = []
    for case in cases(Path(sys.argv[1])):
        if case.option is None:
            tried.append(case)
        else:
            print(f"skipped {case.name}: for gunicorn's option {case.option}")
    for name, (_, why) in OTHERWISE.items():
        print(f"decided otherwise: {name}: {why}")
    with tempfile.TemporaryDirectory() as name:
        failed = directly(tried, Path(name))
        print(f"{len(tried)} raw requests of gunicorn: {failed} failed.")
        for buffers in (True, False):
            folder = Path(name) / str(buffers)
            folder.mkdir()
            behind_nginx(tried, folder, buffers=buffers)
    return 1 if failed or len(tried) < 100 else 0


if __name__ == "__main__":
    sys.exit(main())
