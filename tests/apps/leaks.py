"""A handler for each way in which memory might be kept, and what memory there is."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fanbus import EventStream, Fanbus, HTTPError, Request, Response, WebSocket, WebSocketConfig
from support.heap import live_bytes

app = Fanbus("leaks")
variable: contextvars.ContextVar[object] = contextvars.ContextVar("variable")
# What a session has to do at a certain time is remembered until then, also when it is over before.
timeless = WebSocketConfig(heartbeat_interval=None, timeout=None)


@app.get("/live")
async def live() -> dict[str, int]:
    """Bytes that Rust and Python have taken and not given back; objects that Python knows."""
    for _ in range(3):
        gc.collect()
    tasks = len(asyncio.all_tasks())
    return {
        "bytes": live_bytes(),
        "objects": len(gc.get_objects()),
        "tasks": tasks,
    }


class Holder:
    """Knows its request, as an object of the application may that is kept in `state`."""

    def __init__(self, subject: Request | WebSocket) -> None:
        self.subject = subject


@app.get("/json/{number:int}")
def json_sync(request: Request, number: int) -> dict[str, Any]:
    variable.set(request)
    return {
        "number": number,
        "query": dict(request.query),
        "agent": request.headers.get("user-agent"),
        "cookies": request.cookies,
        "nested": [{"ratio": 0.5}, None, True, "ü" * 100],
    }


@app.post("/json")
async def json_async(request: Request) -> Any:
    variable.set(request)
    await asyncio.sleep(0)
    return await request.json()


@app.get("/state")
def state_sync(request: Request) -> str:
    request.state["holder"] = Holder(request)
    return "kept"


@app.get("/state/async")
async def state_async(request: Request) -> str:
    request.state["holder"] = Holder(request)
    return "kept"


@app.get("/after")
def after(request: Request) -> Response:
    request.after_response(len, "done")
    request.after_response(asyncio.sleep, 0, request)
    answer = Response("more follows")
    answer.set_cookie("a", "1")
    return answer


@app.get("/raises")
def raises() -> None:
    raise LookupError("of a handler")


@app.get("/raises/async")
async def raises_async() -> None:
    raise LookupError("of a handler")


@app.get("/refuses")
async def refuses() -> None:
    raise HTTPError(403, "not you", headers={"x-why": "no"})


@app.get("/cannot-be-sent")
def cannot_be_sent() -> Any:
    return {"object": object()}


@app.post("/form")
async def form(request: Request) -> dict[str, str]:
    values = await request.form()
    return {name: str(value) for name, value in values.items()}


@app.post("/upload")
def upload(request: Request) -> str:
    request.state["form"] = request.form()
    return str(request.form()["file"])


@app.get("/stream")
def stream() -> Iterator[str]:
    for number in range(3):
        yield f"{number}\n"


@app.get("/stream/async")
async def stream_async() -> AsyncIterator[bytes]:
    for number in range(3):
        await asyncio.sleep(0)
        yield b"%d\n" % number


@app.get("/around")
async def around(request: Request) -> Response:
    """Something ahead of the response, and something behind its body."""
    await request.send_early_hints({"link": "</a.css>; rel=preload"})

    async def pieces() -> AsyncIterator[str]:
        yield "piece"

    return Response(pieces(), trailers={"x-end": "1"})


@app.get("/stream/endless")
async def stream_endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 10_000


@app.get("/events")
def events() -> EventStream:
    return EventStream("news", last=1)


@app.get("/news")
def news() -> None:
    app.publish("news", "something")


@app.websocket("/echo", config=timeless)
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.websocket("/timeouts", config=timeless)
async def timeouts(ws: WebSocket) -> None:
    """Most receives are given up, and some find a message."""
    await ws.accept()
    while True:
        receiving = asyncio.ensure_future(ws.receive())
        await asyncio.sleep(0)
        if not receiving.done():
            receiving.cancel()
            await asyncio.wait([receiving])
            await ws.send(await ws.receive())
        else:
            await ws.send(receiving.result())


@app.websocket("/topics", config=timeless)
async def topics(ws: WebSocket) -> None:
    async for message in ws:
        topic = f"topic:{message!s}"
        ws.subscribe(topic, last=1)
        app.publish(topic, message)
        ws.unsubscribe(topic)
        await ws.send("done")


@app.websocket("/many-topics/{name}", config=timeless)
async def many_topics(ws: WebSocket, name: str) -> None:
    for number in range(1000):
        ws.subscribe(f"{name}:{number}")
    await ws.send("in")
    async for _ in ws:
        pass


@app.websocket("/rooms/{name}", config=timeless)
async def rooms(ws: WebSocket, name: str) -> None:
    ws.subscribe(f"room:{name}")
    ws.state["holder"] = Holder(ws)
    await ws.send("in")
    async for message in ws:
        app.publish(f"room:{name}", message)


@app.websocket("/rejects", config=timeless)
async def rejects(ws: WebSocket) -> None:
    await ws.reject(403)


@app.websocket("/fails", config=timeless)
async def fails(ws: WebSocket) -> None:
    await ws.accept()
    raise LookupError("of a handler")


def told(_session: object) -> None: ...


@app.turbo_websocket("/turbo/echo", response_prefix="", config=timeless)
def turbo_echo() -> None: ...


@app.turbo_websocket(
    "/turbo/{room}", broadcast="turbo:{room}", on_open=told, on_close=told, config=timeless
)
def turbo_relay(room: str) -> bool:
    return room != "closed"


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
