"""Rooms: a topic per room, reached through Python, through the relay, and by HTTP."""

from __future__ import annotations

import asyncio
import os
import threading

from fanbus import Fanbus, Request, WebSocket, WebSocketConfig

app = Fanbus("rooms")

# The clients are all in one process on the same cores: they may fall behind for a while.
patient = WebSocketConfig(max_message_size=4 * 1024 * 1024, max_queue_bytes=256 * 1024 * 1024)


@app.websocket("/rooms/{room}", config=patient)
async def room(ws: WebSocket, room: str) -> None:
    ws.subscribe(f"room:{room}")
    await ws.send(f"in {os.getpid()}")
    async for message in ws:
        app.publish(f"room:{room}", message)


@app.websocket("/others/{room}", config=patient)
async def others(ws: WebSocket, room: str) -> None:
    ws.subscribe(f"room:{room}")
    await ws.send(f"in {os.getpid()}")
    async for message in ws:
        ws.publish(f"room:{room}", message)


@app.websocket("/switch", config=patient)
async def switch(ws: WebSocket) -> None:
    """`+topic` subscribes, `-topic` unsubscribes, anything else is published to all of `topic`."""
    await ws.send(f"in {os.getpid()}")
    async for message in ws:
        assert isinstance(message, str)
        if message.startswith("+"):
            ws.subscribe(message[1:])
            await ws.send(f"subscribed {message[1:]}")
        elif message.startswith("-"):
            ws.unsubscribe(message[1:])
            await ws.send(f"unsubscribed {message[1:]}")


@app.turbo_websocket("/relay/{room}", broadcast="room:{room}", config=patient)
def relay() -> None: ...


@app.websocket("/narrow/{room}", config=WebSocketConfig(max_queue_bytes=64 * 1024))
async def narrow(ws: WebSocket, room: str) -> None:
    """A client that gets little patience."""
    ws.subscribe(f"room:{room}")
    await ws.send(f"in {os.getpid()}")
    async for _ in ws:
        pass


@app.post("/sync/{room}")
def publish_sync(request: Request, room: str) -> dict[str, int]:
    return {"offset": app.publish(f"room:{room}", request.text())}


@app.post("/async/{room}")
async def publish_async(request: Request, room: str) -> dict[str, int]:
    return {"offset": app.publish(f"room:{room}", await request.text())}


@app.post("/bytes/{room}")
async def publish_bytes(request: Request, room: str) -> dict[str, int]:
    return {"offset": app.publish(f"room:{room}", await request.bytes())}


@app.post("/thread/{room}")
def publish_in_a_thread(request: Request, room: str) -> dict[str, list[int]]:
    """Each line of the body, in order, in one thread."""
    lines = request.text().splitlines()
    offsets: list[int] = []
    thread = threading.Thread(
        target=lambda: offsets.extend(app.publish(f"room:{room}", line) for line in lines)
    )
    thread.start()
    thread.join()
    return {"offsets": offsets}


@app.post("/task/{room}")
async def publish_in_a_task(request: Request, room: str) -> dict[str, int]:
    text = await request.text()

    async def later() -> int:
        await asyncio.sleep(0)
        return app.publish(f"room:{room}", text)

    return {"offset": await asyncio.create_task(later())}


@app.post("/flood/{room}/{count:int}")
def flood(room: str, count: int) -> dict[str, int]:
    """`count` messages of 64 KiB."""
    for number in range(count):
        app.publish(f"room:{room}", f"{number:08}" * 8192)
    return {"published": count}


@app.get("/pid")
def pid() -> dict[str, int]:
    return {"pid": os.getpid()}


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
