"""The chat whose messages reach every client of every worker: run it, open it in two tabs."""

import asyncio
import json
import os
from pathlib import Path
from time import time_ns

from fanbus import Fanbus, HTTPError, Request, Response, WebSocket, WebSocketConfig

app = Fanbus(name="chat")
app.topic("room:{room}", history=100)  # for new and reconnected clients
limits = WebSocketConfig(max_message_size=16 * 1024, rate_limit=20, tick=15)  # for the page


def note(kind: str, **fields: str) -> str:  # JSON with the publisher and the time
    return json.dumps({"type": kind, **fields, "worker": os.getpid(), "at_ms": time_ns() // 10**6})


def parse(message: str | bytes) -> object:
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


@app.get("/")
def page() -> Response:
    return Response.html(Path(__file__).with_name("index.html").read_text("utf-8"))


@app.websocket("/rooms/{room}", config=limits)
async def room(ws: WebSocket, room: str) -> None:
    if len(room) > 60 or not room.isprintable():
        raise HTTPError(404)
    topic, name = f"room:{room}", ws.query.get("name", "Somebody")[:40]
    ws.subscribe(topic, last=100)  # earlier messages, then messages of all workers
    app.publish(topic, note("joined", name=name, tab=ws.query.get("tab", "")))
    try:
        async for message in ws:
            match parse(message):
                case {"id": str(key), "text": str(text)} if text.strip():
                    app.publish(topic, note("message", id=key, name=name, text=text))
                case _:
                    await ws.send(note("error", text="A message is JSON with an id and a text."))
    finally:
        app.publish(topic, note("left", name=name))


@app.turbo_websocket("/relay/{room}", broadcast="room:{room}", config=limits)
async def relay(request: Request, room: str) -> None:
    """The same room, all in Rust. Python only gets new clients, and announces them later."""
    guest = {key: request.query.get(key, "")[:40] for key in ("name", "tab")}
    asyncio.get_running_loop().call_later(0.2, app.publish, f"room:{room}", note("joined", **guest))


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "5000"))
    app.run(host=host, port=port, workers=min(8, max(2, os.cpu_count() or 1)))  # 2: to see the bus
