"""The application that serves the load of docs/benchmarks.md."""

import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

from fanbus import Fanbus, Request, Response, WebSocket, WebSocketConfig

app = Fanbus(name="bench")
# A closed loop limits itself: slow clients must not be closed here.
limits = WebSocketConfig(max_queue_bytes=64 * 1024 * 1024)
deflating = replace(limits, compression=True)


@app.get("/sync")
def sync() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.get("/async")
async def asynchronous() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.get("/compute")
def compute() -> dict[str, int]:
    """A millisecond or two of nothing but Python."""
    total = 0
    for number in range(20_000):
        total += number * number % 7
    return {"total": total}


@app.get("/wait/{milliseconds:float}")
def wait(milliseconds: float) -> str:
    time.sleep(milliseconds / 1000)
    return "waited"


def compute_for(seconds: float) -> None:
    """So much computing, whatever the machine."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(200))


@app.get("/busy")
def busy() -> str:
    compute_for(0.005)
    return "computed"


@app.get("/async/busy")
async def async_busy() -> str:
    compute_for(0.005)
    return "computed"


@app.get("/stream/busy")
def stream_busy() -> Response:
    def pieces() -> Iterator[bytes]:
        for _ in range(5):
            compute_for(0.001)
            yield b"computed"

    return Response(pieces())


@app.get("/stream/wait")
def stream_wait() -> Response:
    def pieces() -> Iterator[bytes]:
        for _ in range(10):
            time.sleep(0.001)
            yield b"waited"

    return Response(pieces())


@app.put("/upload", stream_body=True)
async def upload(request: Request) -> str:
    total = 0
    async for piece in request.stream():
        total += len(piece)
    return str(total)


@app.post("/upload/whole")
async def upload_whole(request: Request) -> str:
    return str(len(await request.bytes()))


LARGE = 1 << 20


# Made each time, as what a database gives is.
@app.get("/sync/large")
def sync_large() -> bytes:
    return b"x" * LARGE


@app.get("/async/large")
async def asynchronous_large() -> bytes:
    return b"x" * LARGE


@app.get("/stream/async/{size:int}/{count:int}")
async def stream_async(size: int, count: int) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * size

    return Response(pieces())


@app.get("/stream/sync/{size:int}/{count:int}")
def stream_sync(size: int, count: int) -> Response:
    def pieces() -> Iterator[bytes]:
        for _ in range(count):
            yield b"x" * size

    return Response(pieces())


@app.websocket("/echo", config=limits)
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.turbo_websocket("/turbo", response_prefix="", config=limits)
def turbo() -> None: ...


@app.websocket("/room", config=limits)
async def room(ws: WebSocket) -> None:
    ws.subscribe("room")
    async for message in ws:
        app.publish("room", message)


# The usual limits: the rows count the connections that a burst closes.
@app.turbo_websocket("/user/{user}", broadcast="user:{user}")
def user() -> None: ...


@app.post("/notify")
def notify(request: Request) -> dict[str, int]:
    """A loop over all users, as people write it."""
    burst = request.json()
    message = "notify:" + "x" * (burst["bytes"] - 7)
    for _ in range(burst["each"]):
        for number in range(burst["users"]):
            app.publish(f"user:{number}", message)
    return {"published": burst["each"] * burst["users"]}


@app.post("/notify/one")
def notify_one(request: Request) -> str:
    order = request.json()
    app.publish(f"user:{order['user']}", order["text"])
    return "published"


@app.turbo_websocket("/relay", broadcast="room", config=limits)
@app.turbo_websocket("/relay/deflating", broadcast="room", config=deflating)
def relay() -> None: ...


# Where benches/compare puts the files that are served and uploaded.
HOME = Path(os.environ.get("COMPARE", "target/compare"))
if (HOME / "files").exists():
    app.static("/files", HOME / "files")


if __name__ == "__main__":
    tls = bool(os.environ.get("TLS"))
    app.run(
        port=int(sys.argv[1]),
        workers=int(sys.argv[2]),
        ssl_certfile=str(HOME / "certificate.pem") if tls else None,
        ssl_keyfile=str(HOME / "key.pem") if tls else None,
    )
