"""Routes for crowds of slow clients, for test_totals."""

from __future__ import annotations

import os

from fanbus import EventStream, Fanbus, WebSocket, WebSocketConfig
from support.heap import live_bytes

app = Fanbus("memory_budgets")
app.topic("feed:{name}", history=500)

# Who is connected, by the name in the path.
here: dict[str, WebSocket] = {}
# Code and reason of each close.
ends: list[tuple[int | None, str | None]] = []


@app.websocket("/own/{count:int}")
async def own(ws: WebSocket, count: int) -> None:
    """Sends so many pieces of 50 kB, as fast as the client takes them."""
    try:
        for _ in range(count):
            await ws.send(bytes(50_000))
        async for message in ws:
            await ws.send(message)
    finally:
        ends.append((ws.close_code, ws.close_reason))


@app.websocket("/resume/{name}", config=WebSocketConfig(compression=True))
async def resume(ws: WebSocket, name: str) -> None:
    """Everything that is kept, and what is published from then on."""
    ws.subscribe(f"feed:{name}", last=500)
    async for _ in ws:
        pass


@app.get("/events/{name}")
async def events(name: str) -> EventStream:
    """The same, as an event stream."""
    return EventStream(f"feed:{name}", last=500)


async def listen(ws: WebSocket, name: str) -> None:
    here[name] = ws
    ws.subscribe("news")
    async for _ in ws:
        pass


app.websocket("/oldest/{name}", config=WebSocketConfig(overflow="drop_oldest"))(listen)
app.websocket("/newest/{name}", config=WebSocketConfig(overflow="drop_newest"))(listen)
app.websocket("/latest/{name}", config=WebSocketConfig(overflow="latest"))(listen)


@app.get("/ends")
async def show_ends() -> list[tuple[int | None, str | None]]:
    return ends


@app.get("/live")
async def live() -> str:
    return str(live_bytes())


@app.get("/dropped/{name}")
async def dropped(name: str) -> str:
    return str(here[name].dropped) if name in here else ""


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
