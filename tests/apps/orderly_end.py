"""Handlers that work on when their client has left, with a resource that is closed at the end."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator

from fanbus import Fanbus, Request, WebSocket

app = Fanbus("orderly_end")
# How long each handler works after it has begun.
WORK_S = float(os.environ.get("WORK", "1"))


def say(what: str) -> None:
    sys.stderr.write(f"<{what}>\n")
    sys.stderr.flush()


class Pool:
    """Says so when it is used after it was closed."""

    closed = False

    def use(self, by: str) -> None:
        say(f"{by} used it after closing" if self.closed else by)


pool = Pool()
tasks: list[asyncio.Task[None]] = []


@app.on_startup
async def begin() -> None:
    tasks.append(asyncio.create_task(refresh("startup task")))
    tasks.append(asyncio.create_task(asyncio.sleep(3600)))  # a library's, which on_shutdown ends


async def refresh(name: str) -> None:
    try:
        while True:
            if pool.closed:
                say(f"{name} used it after closing")
            await asyncio.sleep(0.001)
    finally:
        pool.use(f"{name} cancelled")


@app.on_shutdown
async def end() -> None:
    say("library task cancelled early" if tasks[1].cancelled() else "library task runs")
    await asyncio.sleep(0.05)
    pool.closed = True
    say("closed")


atexit.register(say, "exit")


@app.get("/plain")
def plain() -> str:
    pool.use("def begun")
    time.sleep(WORK_S)
    pool.use("def done")
    return "done"


@app.post("/orders/{number:int}")
async def order(number: int) -> str:
    pool.use("async begun")
    await asyncio.sleep(WORK_S)
    pool.use("async done")
    return str(number)


@app.websocket("/ws")
async def session(ws: WebSocket) -> None:
    await ws.send("welcome")
    pool.use("websocket begun")
    await asyncio.sleep(WORK_S)
    pool.use("websocket done")


@app.get("/stream")
async def stream() -> AsyncIterator[str]:
    try:
        pool.use("stream begun")
        while True:
            yield "piece\n"
            await asyncio.sleep(0.01)
    finally:
        await asyncio.sleep(WORK_S)
        pool.use("stream done")


@app.get("/pieces")
def pieces() -> Iterator[str]:
    try:
        pool.use("pieces begun")
        while True:
            yield "piece\n"
            time.sleep(0.01)
    finally:
        time.sleep(WORK_S)
        pool.use("pieces done")


@app.get("/after")
async def after(request: Request) -> str:
    request.after_response(later)
    request.after_response(later_on_the_loop)
    return "begun"


def later() -> None:
    pool.use("after begun")
    time.sleep(WORK_S)
    pool.use("after done")


async def later_on_the_loop() -> None:
    pool.use("after on the loop begun")
    await asyncio.sleep(0.05)
    pool.use("after on the loop done")


@app.get("/task")
async def task() -> str:
    tasks.append(asyncio.create_task(refresh("handler's task")))
    return "begun"


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
