"""Handlers that read bodies piece by piece."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fanbus import Fanbus, HTTPError, Request, Response

app = Fanbus("uploads", max_body_size=1000)

ended: list[Any] = []
"""How bodies ended for their handlers."""


def summary(pieces: list[int], digest: Any) -> dict[str, Any]:
    return {"bytes": sum(pieces), "largest": max(pieces, default=0), "sha256": digest.hexdigest()}


@app.put("/async", stream_body=True)
async def read_async(request: Request) -> dict[str, Any]:
    pieces, digest = [], hashlib.sha256()
    async for piece in request.stream():
        digest.update(piece)
        pieces.append(len(piece))
    return summary(pieces, digest)


@app.put("/sync", stream_body=True)
def read_sync(request: Request) -> dict[str, Any]:
    pieces, digest = [], hashlib.sha256()
    for piece in request.stream():
        digest.update(piece)
        pieces.append(len(piece))
    return summary(pieces, digest)


@app.put("/slowly", stream_body=True)
def read_slowly(request: Request) -> dict[str, Any]:
    pieces, digest = [], hashlib.sha256()
    for piece in request.stream():
        time.sleep(0.001)
        digest.update(piece)
        pieces.append(len(piece))
    return summary(pieces, digest)


@app.put("/small", stream_body=True, max_body_size=100)
async def read_small(request: Request) -> dict[str, Any]:
    return await read_async(request)


@app.put("/watched", stream_body=True)
async def read_watched(request: Request) -> dict[str, Any]:
    try:
        return await read_async(request)
    except HTTPError as error:
        ended.append(error.status)
        raise


@app.get("/ended")
def how_they_ended() -> list[Any]:
    return ended


@app.put("/refused", stream_body=True)
async def refuse(request: Request) -> Response:
    return Response("no", 401)


@app.put("/first", stream_body=True)
async def read_one_piece(request: Request) -> str:
    async for piece in request.stream():
        return str(len(piece) > 0)
    return "empty"


@app.put("/echo", stream_body=True)
async def echo(request: Request) -> Response:
    async def run() -> AsyncIterator[bytes]:
        async for piece in request.stream():
            yield piece

    return Response(run())


@app.put("/echo/sync", stream_body=True)
def echo_sync(request: Request) -> Response:
    def run() -> Iterator[bytes]:
        yield from request.stream()

    return Response(run())


@app.put("/wrong", stream_body=True)
async def wrong(request: Request) -> Any:
    return await request.json()


@app.put("/blocks", stream_body=True)
async def blocks(request: Request) -> str:
    return str(list(request.stream()))


@app.put("/whole")
async def whole(request: Request) -> list[str]:
    return [piece.decode() async for piece in request.stream()]


@app.put("/whole/sync")
def whole_sync(request: Request) -> list[str]:
    return [piece.decode() for piece in request.stream()]


@app.put("/held")
async def held(request: Request) -> str:
    return str(len(await request.bytes()))


@app.post("/files", max_body_size=8_000_000)
async def files(request: Request) -> str:
    form = await request.form()
    return str(sum(upload.size for _, upload in form.files.pairs()))


@app.put("/large", max_body_size=2_000_000)
async def large(request: Request) -> str:
    return str(len(await request.bytes()))


@app.put("/digest", max_body_size=16 << 20)
async def digest_of(request: Request) -> str:
    return hashlib.sha256(await request.bytes()).hexdigest()


gate = asyncio.Event()
"""Open: bodies are read that were not read before."""


@app.put("/waits", stream_body=True)
async def read_when_the_gate_opens(request: Request) -> dict[str, Any]:
    await gate.wait()
    return await read_async(request)


@app.get("/open")
async def open_the_gate() -> str:
    gate.set()
    return "open"


@app.get("/megabytes/{count:int}")
async def megabytes(count: int) -> Response:
    return Response(bytes(1_000_000) * count)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
