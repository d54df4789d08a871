"""What a soak listens to: one topic in every way that there is."""

from __future__ import annotations

import os

from fanbus import EventStream, Fanbus, WebSocket, WebSocketConfig

app = Fanbus("soak")
app.topic("soak:{name}", history=20_000)


@app.websocket("/handler/{name}")
async def handler(ws: WebSocket, name: str) -> None:
    ws.subscribe(f"soak:{name}")
    async for _ in ws:
        pass


@app.turbo_websocket("/relay/{name}", broadcast="soak:{name}", config=WebSocketConfig(tick=5))
def relay() -> None: ...


@app.get("/events/{name}")
def events(name: str) -> EventStream:
    return EventStream(f"soak:{name}")


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
