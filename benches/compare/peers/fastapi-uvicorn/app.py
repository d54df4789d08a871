"""FastAPI as its documentation has it: JSON, an echo, and the `ConnectionManager` of WebSockets;
handlers that wait and compute, files, and an upload."""

import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles

app = FastAPI()


class ConnectionManager:
    """A list in the memory of this process, as the documentation has it."""

    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        self.active_connections.remove(websocket)

    async def broadcast(self, message: str) -> None:
        for connection in self.active_connections:
            await connection.send_text(message)


manager = ConnectionManager()


@app.get("/")
@app.get("/async")
async def hello() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.get("/wait/{milliseconds}")
def wait(milliseconds: float) -> str:
    time.sleep(milliseconds / 1000)
    return "waited"


def compute_for(seconds: float) -> None:
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
def stream_busy() -> StreamingResponse:
    def pieces() -> Iterator[bytes]:
        for _ in range(5):
            compute_for(0.001)
            yield b"computed"

    return StreamingResponse(pieces())


@app.get("/stream/wait")
def stream_wait() -> StreamingResponse:
    def pieces() -> Iterator[bytes]:
        for _ in range(10):
            time.sleep(0.001)
            yield b"waited"

    return StreamingResponse(pieces())


@app.put("/upload")
async def upload(request: Request) -> str:
    total = 0
    async for piece in request.stream():
        total += len(piece)
    return str(total)


@app.post("/upload/whole")
async def upload_whole(request: Request) -> str:
    return str(len(await request.body()))


LARGE = 1 << 20


@app.get("/sync/large")
def sync_large() -> Response:
    return Response(b"x" * LARGE)


@app.get("/async/large")
async def asynchronous_large() -> Response:
    return Response(b"x" * LARGE)


@app.get("/stream/async/{size}/{count}")
async def stream_async(size: int, count: int) -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * size

    return StreamingResponse(pieces())


@app.get("/stream/sync/{size}/{count}")
def stream_sync(size: int, count: int) -> StreamingResponse:
    def pieces() -> Iterator[bytes]:
        for _ in range(count):
            yield b"x" * size

    return StreamingResponse(pieces())


files = Path(os.environ["COMPARE"]) / "files"
if files.exists():
    app.mount("/files", StaticFiles(directory=files))


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


@app.websocket("/room")
async def room(websocket: WebSocket) -> None:
    await manager.connect(websocket)
    try:
        while True:
            await manager.broadcast(await websocket.receive_text())
    except WebSocketDisconnect:
        manager.disconnect(websocket)
