"""The rows of ordinary requests: a browser's, pipelined ones, files, uploads, and handlers that
wait or compute."""

from __future__ import annotations

from .rows import (
    ACTIX,
    DOWNLOADS,
    FANBUS,
    FASTAPI,
    FLOOR,
    GRANIAN,
    GRANIAN_FILES,
    NGINX,
    Bar,
    Entry,
    Row,
)

# The headers of a browser besides Host.
BROWSER = (
    "Connection: keep-alive",
    "Cache-Control: max-age=0",
    'Sec-CH-UA: "Chromium";v="142", "Not?A_Brand";v="24"',
    "Sec-CH-UA-Mobile: ?0",
    'Sec-CH-UA-Platform: "Linux"',
    "Upgrade-Insecure-Requests: 1",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/142.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
    "Sec-Fetch-Site: none",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
    "Accept-Encoding: identity",
    "Accept-Language: en-GB,en;q=0.9",
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark",
)
_SYNC = Entry(FANBUS, "/sync", "sync handler")
_ASYNC = Entry(FANBUS, "/async", "async handler")
_JSON = (
    _SYNC,
    _ASYNC,
    Entry(GRANIAN, "/"),
    Entry(FASTAPI, "/"),
    Entry(ACTIX, "/"),
    Entry(FLOOR, "/"),
)


def _options(headers: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for header in headers for word in ("--header", header))


def _waiting(milliseconds: float, connections: int, least: float, *, beside: str = "") -> Row:
    path = f"/wait/{milliseconds:g}"
    other = ", beside 4 whose async handler computes for 5 ms" if beside else ""
    return Row(
        f"a synchronous handler that waits {milliseconds:g} ms, {connections} connections{other}",
        "http",
        (Entry(FANBUS, path), Entry(FASTAPI, path)),
        ("--connections", str(connections)),
        figure="rate",
        bars={FANBUS: Bar(least, FASTAPI, is_least=True)},
        beside=beside,
    )


def _hello_beside(what: str, path: str, connections: int) -> Row:
    return Row(
        f"hello with {connections} connections beside 4 whose {what}",
        "http",
        (Entry(FANBUS, "/async"), Entry(FASTAPI, "/")),
        ("--connections", str(connections)),
        figure="rate",
        bars={FANBUS: Bar(1, FASTAPI, is_least=True)},
        beside=path,
    )


def _file(size: str, connections: int, most: float, *, has_tls: bool = False) -> Row:
    path = f"/files/{size}"
    over = ", TLS" if has_tls else ""
    peers = () if has_tls else (Entry(GRANIAN_FILES, path), Entry(FASTAPI, path))
    return Row(
        f"a file of {size}B, {connections} connections{over}",
        "http",
        (Entry(FANBUS, path), Entry(NGINX, path), *peers),
        ("--connections", str(connections)),
        bars={FANBUS: Bar(most, NGINX)},
        has_tls=has_tls,
    )


WEB = (
    Row(
        "HTTP JSON with the headers of a browser, 64 connections",
        "http",
        _JSON,
        _options(BROWSER),
        bars={_SYNC.name: Bar(1.25 * 1.06, ACTIX), _ASYNC.name: Bar(1.5 * 1.06, ACTIX)},
    ),
    Row(
        "HTTP JSON, 8 connections, 16 requests pipelined on each",
        "http",
        _JSON,
        ("--connections", "8", "--in-flight", "16"),
    ),
    _waiting(0.5, 64, 2),
    _waiting(1, 64, 2),
    _waiting(2, 64, 2),
    _waiting(5, 64, 2),
    _waiting(2, 8, 1),
    _waiting(1, 64, 2, beside="/async/busy"),
    Row(
        "a generator on a thread that waits ten times for 1 ms, 64 connections",
        "http",
        (Entry(FANBUS, "/stream/wait"), Entry(FASTAPI, "/stream/wait")),
        figure="rate",
        bars={FANBUS: Bar(1, FASTAPI, is_least=True)},
    ),
    _hello_beside("synchronous handler computes for 5 ms", "/busy", 1),
    _hello_beside("synchronous handler computes for 5 ms", "/busy", 8),
    _hello_beside("synchronous handler computes for 5 ms", "/busy", 16),
    _hello_beside("synchronous handler computes for 5 ms", "/busy", 64),
    _hello_beside("generator on a thread computes for 5 ms", "/stream/busy", 8),
    _file("8Ki", 64, 1.5),
    _file("100Ki", 64, 1.3),
    _file("1Mi", 16, 1),
    _file("10Mi", 8, 1.2),
    _file("100Ki", 64, 1, has_tls=True),
    _file("10Mi", 8, 1, has_tls=True),
    Row(
        "200 slow downloads of a file of 10 MiB",
        DOWNLOADS,
        tuple(Entry(name, "/files/10Mi") for name in (FANBUS, NGINX, GRANIAN_FILES, FASTAPI)),
        ("200",),
        figure="memory",
        bars={FANBUS: Bar(32)},
    ),
    Row(
        "an upload of 100 MB, read piece by piece, 2 connections",
        "http",
        (Entry(FANBUS, "/upload"), Entry(FASTAPI, "/upload")),
        ("--connections", "2", "--method", "PUT", "--body", "@@UPLOAD@", "--seconds", "5"),
        bars={FANBUS: Bar(0.8, FASTAPI)},
    ),
)
