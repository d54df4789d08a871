"""Routes with permessage-deflate, and one without on the same topics."""

from __future__ import annotations

import os

from fanbus import Fanbus, WebSocket, WebSocketConfig

app = Fanbus("deflate")

deflating = WebSocketConfig(compression=True, max_queue_bytes=64 * 1024 * 1024)
small = WebSocketConfig(compression=True, max_message_size=1000)
plain = WebSocketConfig(max_queue_bytes=64 * 1024 * 1024)


@app.websocket("/echo", config=deflating)
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/echo/small", config=small)
async def echo_small(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/rooms/{room}", config=deflating)
async def room(ws: WebSocket, room: str) -> None:
    ws.subscribe(f"room:{room}")
    await ws.send(f"in {os.getpid()}")
    async for message in ws:
        app.publish(f"room:{room}", message)


@app.turbo_websocket("/turbo", response_prefix="", config=deflating)
@app.turbo_websocket("/turbo/small", response_prefix="", config=small)
@app.turbo_websocket("/relay/{room}", broadcast="room:{room}", config=deflating)
@app.turbo_websocket("/relay/{room}/small", broadcast="room:{room}", config=small)
@app.turbo_websocket("/plain/{room}", broadcast="room:{room}", config=plain)
def all_in_rust() -> None: ...


@app.get("/")
def page() -> str:
    return "A page to open WebSockets from."


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
