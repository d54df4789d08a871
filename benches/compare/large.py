"""The rows of large payloads: responses, uploads, echoes, and streams of large pieces."""

from __future__ import annotations

from .rows import FANBUS, FASTAPI, Bar, Entry, Row


def _row(name: str, mode: str, path: str, most: float, connections: int, *options: str) -> Row:
    """The same path on both systems."""
    plural = "s" if connections > 1 else ""
    return Row(
        f"{name}, {connections} connection{plural}",
        mode,
        (Entry(FANBUS, path), Entry(FASTAPI, path)),
        ("--connections", str(connections), *options),
        bars={FANBUS: Bar(most, FASTAPI)},
    )


def _stream(size: str, count: int, kind: str, connections: int) -> Row:
    """10 MiB or more in pieces of that many bytes, from a generator of that kind."""
    pieces = f"{count} pieces of {size}B, {kind} generator"
    path = f"/stream/{kind}/{_SIZES[size]}/{count}"
    return _row(f"a stream of {pieces}", "http", path, 0.8, connections)


_SIZES = {"64Ki": 64 << 10, "1Mi": 1 << 20}
_UPLOAD = ("--method", "POST", "--body", "@@FILES@/1Mi")

LARGE = (
    _row("a response of 1 MiB, sync handler", "http", "/sync/large", 0.65, 8),
    _row("a response of 1 MiB, async handler", "http", "/async/large", 0.8, 8),
    _row("WebSocket echo in Python of 64 KiB", "echo", "/echo", 0.8, 8, "--bytes", "65536"),
    _row("WebSocket echo in Python of 1 MiB", "echo", "/echo", 0.8, 8, "--bytes", "1048576"),
    _row("an upload of 1 MiB, read as a whole", "http", "/upload/whole", 0.8, 8, *_UPLOAD),
    *(
        _stream(size, count, kind, connections)
        for kind in ("async", "sync")
        for size, count in (("64Ki", 160), ("1Mi", 16))
        for connections in (1, 8)
    ),
)
