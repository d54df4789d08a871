"""Every state of a connection, for clients on narrow links and for those that vanish."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fanbus import EventStream, Fanbus, Request, WebSocket, WebSocketConfig

SILENCE_S = float(os.environ["SILENCE"])
QUEUE_BYTES = 2 * 1024 * 1024

app = Fanbus("narrow_links")
app.topic("kept:{name}", history=2000)

here: set[str] = set()
"""Whose handlers and generators have begun and not come to their end."""

never = asyncio.Event()

ended: dict[str, tuple[int | None, str | None]] = {}
"""How sessions were closed."""


def limits(**fields: Any) -> WebSocketConfig:
    return WebSocketConfig(timeout=SILENCE_S, heartbeat_interval=SILENCE_S / 3, **fields)


def room(policy: Any, queue: int) -> None:
    @app.websocket(f"/{policy}/{{name}}", config=limits(overflow=policy, max_queue_bytes=queue))
    async def listen(ws: WebSocket, name: str) -> None:
        ws.subscribe(name)
        await ws.send("subscribed")
        async for _ in ws:
            pass
        ended[name] = ws.close_code, ws.close_reason


for overflow in ("drop_oldest", "drop_newest", "latest"):
    room(overflow, 32_768)
room("close", QUEUE_BYTES)


@app.turbo_websocket(
    "/relay/{name}", broadcast="{name}", config=limits(max_queue_bytes=QUEUE_BYTES)
)
def relay() -> None: ...


@app.websocket("/loop/{count}", config=limits(max_queue_bytes=65_536))
async def loop(ws: WebSocket, count: int) -> None:
    for number in range(count):
        await ws.send(f"{number:<20000}")
    async for _ in ws:
        pass


@app.websocket("/replay/{name}", config=limits(max_queue_bytes=QUEUE_BYTES))
async def replay(ws: WebSocket, name: str) -> None:
    ws.subscribe(f"kept:{name}", last=1000)
    async for _ in ws:
        pass


@app.websocket("/deaf/{name}", config=WebSocketConfig(timeout=None, heartbeat_interval=None))
async def deaf(ws: WebSocket, name: str) -> None:
    await stay_until_closed(ws, name)


@app.websocket(
    "/unlimited/{name}",
    config=WebSocketConfig(timeout=None, heartbeat_interval=None, max_queue_bytes=4096),
)
async def unlimited(ws: WebSocket, name: str) -> None:
    await stay_until_closed(ws, name)


@app.websocket("/paused/{name}", config=limits(max_queue_bytes=4096))
async def paused(ws: WebSocket, name: str) -> None:
    await stay_until_closed(ws, name)


async def stay_until_closed(ws: WebSocket, name: str) -> None:
    """Receives nothing, so that Rust stops reading when enough has come."""
    here.add(name)
    await ws.send("here")
    while ws.close_code is None:
        await asyncio.sleep(0.05)
    here.discard(name)


@app.websocket("/receives/{name}", config=WebSocketConfig(timeout=None, heartbeat_interval=None))
async def receives(ws: WebSocket, name: str) -> None:
    here.add(name)
    await ws.send("here")
    async for _ in ws:
        pass
    here.discard(name)


@app.get("/events/{name}")
async def events(name: str) -> EventStream:
    return EventStream(name, ping_interval=0.5, max_queue_bytes=QUEUE_BYTES)


@app.get("/here")
async def who_is_here() -> list[str]:
    return sorted(here)


@app.get("/ended/{name}")
async def how_it_ended(name: str) -> list[int | str | None]:
    return list(ended.get(name, ()))


@app.get("/wait/{name}")
async def wait(name: str) -> str:
    here.add(name)
    try:
        await never.wait()
    finally:
        here.discard(name)
    return "never"


@app.get("/generate/{name}")
async def generate(name: str) -> AsyncIterator[str]:
    here.add(name)
    try:
        yield "one piece"
        await never.wait()
    finally:
        here.discard(name)


@app.get("/endless/{name}")
def endless(name: str) -> Iterator[bytes]:
    here.add(name)
    try:
        while True:
            yield bytes(50_000)
    finally:
        here.discard(name)


@app.post("/body")
async def body(request: Request) -> int:
    return len(await request.bytes())


if __name__ == "__main__":
    app.run(
        host=os.environ.get("HOST", "127.0.0.1"),
        port=int(os.environ["PORT"]),
        workers=int(os.environ["WORKERS"]),
    )
