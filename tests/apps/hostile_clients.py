"""One route of each kind with the usual limits, for clients that mean harm."""

from __future__ import annotations

import gc
import os

from fanbus import EventStream, Fanbus, WebSocket, WebSocketConfig
from support.heap import live_bytes

app = Fanbus("hostile_clients")

usual = WebSocketConfig(compression=True)


@app.websocket("/echo/{name}", config=usual)
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.turbo_websocket("/turbo/{name}", response_prefix="", config=usual)
@app.turbo_websocket("/relay/{name}", broadcast="room:{name}", config=usual)
def all_in_rust() -> None: ...


@app.get("/events/{name}")
def events(name: str) -> EventStream:
    return EventStream(name)


@app.get("/live")
def live() -> dict[str, int]:
    """What this worker holds."""
    gc.collect()
    return {"pid": os.getpid(), "bytes": live_bytes()}


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
