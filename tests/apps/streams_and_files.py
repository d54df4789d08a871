"""Responses that are made while they are sent, files, and what may be compressed."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from fanbus import Fanbus, Request, Response, Router

app = Fanbus(
    "sending",
    compression=os.environ.get("COMPRESSION") == "1",
    compression_level=int(os.environ["LEVEL"]) if "LEVEL" in os.environ else None,
)
FOLDER = Path(os.environ["FOLDER"])
app.static("/static", FOLDER / "public", max_age=60)
inner = Router(prefix="/inner")
inner.static("/", FOLDER / "public", name="inner")
app.include(inner)

made: list[str] = []
"""What generators have come to."""

gate = threading.Event()
async_gate = asyncio.Event()

PIECE = b"x" * 10_000

WORDS = Path(__file__).read_text().split()


@app.get("/made")
def what_was_made() -> list[str]:
    return made


@app.get("/open")
async def open_gates() -> str:
    gate.set()
    async_gate.set()
    return "open"


@app.get("/sync")
def pieces() -> Iterator[str]:
    yield "ä"
    yield "b"


@app.get("/async")
async def pieces_async() -> Response:
    async def run() -> AsyncIterator[bytes | str]:
        yield b"\xff"
        yield ""
        await asyncio.sleep(0)
        yield "b"

    return Response(run(), 201, {"X-Thing": "yes"}, "application/x-thing")


@app.route("/handler/async", methods=["POST"])
async def handler_that_yields(request: Request) -> AsyncIterator[str]:
    yield str(await request.text())
    yield " and on"


@app.get("/list")
def list_of_pieces() -> Response:
    return Response(iter(["a", "b"]))


@app.get("/gate/sync")
def gated() -> Iterator[str]:
    yield "first"
    gate.wait(20)
    yield "second"


@app.get("/close")
async def close_gates() -> str:
    gate.clear()
    async_gate.clear()
    return "closed"


@app.get("/gate/async")
async def gated_async() -> Response:
    async def run() -> AsyncIterator[str]:
        yield "first"
        await async_gate.wait()
        yield "second"

    return Response(run())


@app.get("/endless/sync")
def endless() -> Iterator[bytes]:
    count = 0
    try:
        while True:
            count += 1
            yield PIECE
    finally:
        made.append(f"sync {count}")


@app.get("/endless/async")
async def endless_async() -> Response:
    async def run() -> AsyncIterator[bytes]:
        count = 0
        try:
            while True:
                count += 1
                yield PIECE
        finally:
            made.append(f"async {count}")

    return Response(run())


@app.get("/waiting")
async def waiting() -> Response:
    async def run() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            made.append("cancelled")
            raise

    return Response(run())


@app.get("/large/{how}")
async def large(how: str) -> Response:
    def run() -> Iterator[bytes]:
        for number in range(400):
            yield str(number % 10).encode() * 10_000

    async def run_async() -> AsyncIterator[bytes]:
        for piece in run():
            yield piece

    return Response(run() if how == "sync" else run_async())


@app.get("/ticks")
def ticks() -> Response:
    return Response((f"data: {number}\n\n" for number in range(9)), 200, {}, "text/event-stream")


@app.get("/bug/sync")
def bug() -> Iterator[Any]:
    yield "first"
    raise RuntimeError("a bug in a generator")


@app.get("/bug/async")
async def bug_async() -> Response:
    async def run() -> AsyncIterator[Any]:
        yield "first"
        yield 7

    return Response(run())


@app.get("/file")
def file(request: Request) -> Response:
    return Response.file(
        FOLDER / "public" / "a.txt",
        download=request.query.get("download"),
        headers={"X-Thing": "yes"},
    )


@app.get("/file/gone")
def gone_file() -> Response:
    path = FOLDER / "soon-gone"
    path.write_text("x")
    response = Response.file(path)
    path.unlink()
    return response


@app.get("/file/missing")
def missing_file() -> Response:
    return Response.file(FOLDER / "never-there")


@app.get("/tagged")
def tagged() -> Response:
    response = Response({"value": "x" * 2000})
    response.set_etag()
    return response


@app.get("/modified")
def modified() -> Response:
    return Response("old", headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})


@app.get("/noise/{length:int}")
async def noise(length: int) -> str:
    """Text that shrinks to half of it, and no further."""
    return os.urandom(length // 2).hex()


@app.get("/json/{length:int}")
def json_of(length: int) -> dict[str, str]:
    return {"value": "x" * length}


@app.get("/rows/{count:int}")
def rows_of(count: int) -> list[dict[str, object]]:
    """As a database may give them."""
    made_up = random.Random(1)
    return [
        {
            "id": number,
            "name": " ".join(made_up.choices(WORDS, k=3)),
            "mail": f"user{made_up.randrange(10**6)}@example.org",
            "active": made_up.random() < 0.5,
            "score": round(made_up.random() * 100, 3),
            "created": f"2026-11-{made_up.randrange(1, 30):02}T{made_up.randrange(24):02}:00:00Z",
        }
        for number in range(count)
    ]


@app.get("/kind")
def kind(request: Request) -> Response:
    headers = [(name, value) for name, value in request.query.pairs() if name != "status"]
    return Response("x" * 5000, int(request.query.get("status", "200")), headers)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
