"""Rooms whose messages are kept: who comes gets the last ones, or those since an offset."""

from __future__ import annotations

import os

from fanbus import Fanbus, Request, WebSocket, WebSocketConfig

app = Fanbus("history")
app.topic("room:{room}", history=100)
app.topic("brief:{room}", history=100, seconds=1)
small = WebSocketConfig(max_queue_bytes=4096)


def number(text: str | None) -> int | None:
    return None if text is None else int(text)


async def replay(ws: WebSocket, topic: str) -> None:
    query = ws.query
    got = ws.subscribe(
        topic,
        last=number(query.get("last")),
        since=number(query.get("since")),
        epoch=number(query.get("epoch")),
    )
    await ws.send(f"replay {got.messages} {got.complete} {got.end} {got.epoch}")
    async for message in ws:
        app.publish(topic, message)


@app.websocket("/rooms/{room}")
async def room(ws: WebSocket, room: str) -> None:
    await replay(ws, f"room:{room}")


@app.websocket("/small/{room}", config=small)
async def little(ws: WebSocket, room: str) -> None:
    await replay(ws, f"room:{room}")


@app.turbo_websocket("/relay/{room}", broadcast="room:{room}")
def relay() -> None: ...


@app.post("/publish/{topic}")
async def publish(request: Request, topic: str) -> dict[str, int]:
    return {"offset": app.publish(topic, await request.text())}


@app.get("/history/{topic}")
def history(request: Request, topic: str) -> dict[str, object]:
    found = app.history(
        topic, last=number(request.query.get("last")), since=number(request.query.get("since"))
    )
    return {
        "messages": [record.message for record in found],
        "offsets": [record.offset for record in found],
        "complete": found.complete,
        "end": found.end,
    }


@app.post("/keep/{topic}")
def keep(topic: str) -> dict[str, str]:
    app.topic(topic, history=5)
    return {"kept": topic}


@app.get("/pid")
def pid() -> dict[str, int]:
    return {"pid": os.getpid()}


if __name__ == "__main__":
    app.run(
        port=int(os.environ["PORT"]),
        workers=int(os.environ["WORKERS"]),
        bus_size=os.environ.get("RING", "64K"),
    )
