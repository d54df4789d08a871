"""Publishes as fast as a loop can, by every way there is."""

from __future__ import annotations

import json
import os
import time
from typing import TypedDict

from fanbus import Fanbus, Request, WebSocket

app = Fanbus("bursts")

if os.environ.get("HISTORY"):
    app.topic("{topic}", history=3)


class Burst(TypedDict):
    """`rounds` messages of `bytes` to each of the topics `NAME-0`, `NAME-1`, ..."""

    name: str
    topics: int
    rounds: int
    bytes: int


def burst(of: Burst) -> dict[str, float]:
    message, slowest = "x" * of["bytes"], 0.0
    for _ in range(of["rounds"]):
        for number in range(of["topics"]):
            began = time.monotonic()
            app.publish(f"{of['name']}-{number}", message)
            slowest = max(slowest, time.monotonic() - began)
    return {"slowest": slowest}


@app.post("/def")
def from_a_thread(request: Request) -> dict[str, float]:
    return burst(request.json())


@app.post("/async")
async def from_the_event_loop(request: Request) -> dict[str, float]:
    return burst(await request.json())


@app.websocket("/websocket")
async def from_a_websocket(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(json.dumps(burst(json.loads(message))))


@app.websocket("/subscribe-first")
async def subscribe_first(ws: WebSocket) -> None:
    """Subscribes to what it then publishes, with nothing awaited in between."""
    async for message in ws:
        of: Burst = json.loads(message)
        ws.subscribe(f"{of['name']}-0")
        for _ in range(of["rounds"]):
            app.publish(f"{of['name']}-0", "x" * of["bytes"])


@app.websocket("/listen/{topic}")
async def listen(ws: WebSocket, topic: str) -> None:
    ws.subscribe(topic)
    await ws.send(f"in {os.getpid()}")
    async for _ in ws:
        pass


@app.get("/alive")
def alive() -> dict[str, int]:
    return {"pid": os.getpid()}


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
