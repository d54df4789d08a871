"""A handler that holds Python's lock until somebody opens a pipe, and routes beside it."""

from __future__ import annotations

import ctypes
import os

from fanbus import Fanbus, WebSocket, WebSocketConfig

app = Fanbus("held_gil")
asked_often = WebSocketConfig(heartbeat_interval=0.2, timeout=20)

# Unlike CDLL, PyDLL does not let go of the lock while the function runs.
libc = ctypes.PyDLL(None)


@app.websocket("/hold")
async def hold(ws: WebSocket) -> None:
    """Opens the pipe for reading, which waits for somebody who opens it for writing."""
    async for _ in ws:
        await ws.send("holding")
        os.close(libc.open(os.fsencode(os.environ["PIPE"]), os.O_RDONLY))
        await ws.send("released")


@app.websocket("/rooms/{room}", config=asked_often)
async def room(ws: WebSocket, room: str) -> None:
    ws.subscribe(f"room:{room}")
    await ws.send("in")
    async for message in ws:
        app.publish(f"room:{room}", message)


@app.turbo_websocket("/relay/{room}", broadcast="room:{room}", config=asked_often)
def relay() -> None:
    """All in Rust."""


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
