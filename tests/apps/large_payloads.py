"""Large payloads: responses, messages, uploads and streams of 1 MiB."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

from fanbus import Fanbus, Request, Response, WebSocket, WebSocketConfig

app = Fanbus("large_payloads")
SIZE = 1 << 20
CONFIG = WebSocketConfig(
    max_message_size=2 * SIZE,
    max_queue_bytes=16 * SIZE,
    compression=os.environ.get("COMPRESSION") == "1",
)


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


class Tracked(bytes):
    """Its release is noted."""

    def __del__(self) -> None:
        released.append(1)


released: list[int] = []


def tracked() -> bytes:
    return Tracked(b"t" * SIZE)


@app.get("/tracked")
async def tracked_on_the_loop() -> bytes:
    return tracked()


@app.get("/tracked-def")
def tracked_on_a_thread() -> Response:
    return Response(tracked())


@app.get("/released")
async def how_many_were_released() -> str:
    return str(len(released))


@app.websocket("/tracked", config=CONFIG)
async def send_tracked(ws: WebSocket) -> None:
    async for _ in ws:
        await ws.send(tracked())


@app.websocket("/mixed", config=CONFIG)
async def mixed(ws: WebSocket) -> None:
    """Small and large ones of each type, and what is published, in the order of the calls."""
    ws.subscribe("mixed")
    async for message in ws:
        size = int(message)
        ws.send("first")
        ws.send("a" * size)
        ws.send("\N{SNOWMAN}" * (size // 3))
        app.publish("mixed", b"published")
        ws.send(b"b" * size)
        ws.send(bytearray(b"c" * size))
        ws.send(memoryview(b"d" * size))
        await ws.send("last")


@app.get("/snow")
async def snow() -> str:
    return "\N{SNOWMAN}" * SIZE


@app.websocket("/echo", config=CONFIG)
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
