"""Handlers that raise what elsewhere ends a program."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator

from fanbus import Fanbus, Request, WebSocket

app = Fanbus("sys_exit")
kept: list[asyncio.Task[None]] = []


@app.get("/pid")
async def pid() -> str:
    return str(os.getpid())


@app.get("/plain")
def plain() -> None:
    sys.exit("plain")


@app.get("/at-once")
async def at_once() -> None:
    sys.exit("at once")


@app.get("/later")
async def later() -> None:
    await asyncio.sleep(0)
    sys.exit("later")


@app.get("/interrupted")
async def interrupted() -> None:
    raise KeyboardInterrupt


@app.get("/generated")
def generated() -> Iterator[str]:
    yield "begun"
    sys.exit("generated")


@app.get("/awaited")
async def awaited() -> AsyncIterator[str]:
    yield "begun"
    sys.exit("awaited")


@app.get("/task")
async def task() -> str:
    async def ends() -> None:
        sys.exit("task")

    kept.append(asyncio.create_task(ends()))
    return "begun"


@app.get("/background")
async def background(request: Request) -> str:
    async def ends() -> None:
        sys.exit("background")

    request.after_response(ends)
    return "begun"


@app.get("/stop")
async def stop() -> str:
    asyncio.get_running_loop().stop()
    return "stopped"


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        if message == "exit":
            sys.exit("echo")
        await ws.send(message)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
