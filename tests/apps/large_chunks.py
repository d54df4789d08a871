"""Streams of large pieces, and how much of them waits for clients."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator
from contextlib import closing

from fanbus import Fanbus, Response
from support.heap import live_bytes
from support.mixed_chunks import as_bytes, mixed

app = Fanbus("large_chunks")

asked = ended = 0
"""Pieces that generators without end have made, and how many of them have been closed."""


@app.get("/asked")
async def how_many_were_asked() -> dict[str, int]:
    return {"asked": asked, "ended": ended, "live": live_bytes()}


def endless(size: int) -> Generator[bytes, None, None]:
    global asked, ended
    try:
        while True:
            asked += 1
            yield bytes(size)
    finally:
        ended += 1


async def awaited(pieces: Generator[bytes | str, None, None]) -> AsyncIterator[bytes | str]:
    with closing(pieces):
        for piece in pieces:
            yield piece


@app.get("/mixed/{how}/{seed:int}")
async def send_mixed(how: str, seed: int) -> Response:
    pieces = mixed(seed)
    return Response(pieces if how == "sync" else awaited(pieces))


@app.get("/stated/{how}/{seed:int}")
async def send_with_a_length(how: str, seed: int) -> Response:
    length = sum(len(as_bytes(piece)) for piece in mixed(seed))
    pieces = mixed(seed)
    return Response(
        pieces if how == "sync" else awaited(pieces), headers={"Content-Length": str(length)}
    )


@app.get("/endless/{how}/{size:int}")
async def send_endless(how: str, size: int) -> Response:
    pieces = endless(size)
    return Response(pieces if how == "sync" else awaited(pieces))


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
