"""A WebSocket route for each way in which a connection is closed."""

from __future__ import annotations

import asyncio
import os

from fanbus import Fanbus, WebSocket, WebSocketConfig

app = Fanbus("close_codes")


@app.websocket("/", config=WebSocketConfig(compression=True))
@app.websocket("/small", config=WebSocketConfig(max_message_size=1000))
@app.websocket("/rate", config=WebSocketConfig(rate_limit=5))
@app.websocket("/quiet", config=WebSocketConfig(heartbeat_interval=None, timeout=0.5))
async def read(ws: WebSocket) -> None:
    async for _ in ws:
        pass


@app.websocket("/return")
async def returns(ws: WebSocket) -> None:
    await ws.accept()


@app.websocket("/raise")
async def raises(ws: WebSocket) -> None:
    await ws.accept()
    raise RuntimeError("a secret of the handler")


@app.websocket("/cancel")
async def cancels(ws: WebSocket) -> None:
    await ws.accept()
    raise asyncio.CancelledError


@app.websocket("/code")
async def code(ws: WebSocket) -> None:
    await ws.close(4000, "goodbye")


@app.websocket("/flood", config=WebSocketConfig(max_queue_bytes=1000))
async def flood(ws: WebSocket) -> None:
    while True:
        ws.send("x" * 1000)


@app.turbo_websocket("/relay", broadcast="relay")
def relay() -> None: ...


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]))
