"""Large payloads: responses, messages, uploads and streams of 1 MiB."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

from fanbus import Fanbus, Request, Response, WebSocket, WebSocketConfig

app = Fanbus("large")
SIZE = 1 << 20
CONFIG = WebSocketConfig(max_message_size=2 * SIZE, max_queue_bytes=8 * SIZE)


@app.get("/async")
async def made_on_the_loop() -> bytes:
    return b"x" * SIZE


@app.get("/small")
async def small() -> bytes:
    return b"x"


@app.get("/def")
def made_on_a_thread() -> bytes:
    return b"x" * SIZE


@app.get("/text")
async def text() -> Response:
    return Response("x" * SIZE)


@app.post("/upload")
async def upload(request: Request) -> str:
    return str(len(await request.bytes()))


@app.get("/pieces/{size:int}")
async def pieces(size: int) -> Response:
    async def make() -> AsyncIterator[bytes]:
        for _ in range(SIZE // size):
            yield b"x" * size

    return Response(make())


@app.get("/pieces-def/{size:int}")
def pieces_of_a_thread(size: int) -> Response:
    def make() -> Iterator[bytes]:
        for _ in range(SIZE // size):
            yield b"x" * size

    return Response(make())


@app.websocket("/echo", config=CONFIG)
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
