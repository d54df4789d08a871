"""An application that a test rewrites while it runs. It tells which version of itself answers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time

from fanbus import Fanbus, Request, WebSocket

VERSION = "1"

app = Fanbus("changing")
app.topic("news", history=10_000)


@app.get("/")
def version() -> dict[str, str | int]:
    return {"version": VERSION, "pid": os.getpid()}


@app.get("/slow/{seconds:float}")
async def slow(seconds: float) -> dict[str, str]:
    await asyncio.sleep(seconds)
    return {"version": VERSION}


@app.get("/block/{seconds:float}")
async def block_the_event_loop(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


@app.get("/crash")
def crash() -> str:
    signal.raise_signal(signal.SIGSEGV)  # of this thread, whose stack is to be told
    return "never"


@app.get("/eat/{megabytes:int}")
def eat(megabytes: int) -> str:
    eaten.append(b"x" * (megabytes << 20))
    return "eaten"


eaten: list[bytes] = []


@app.get("/orphan")
def orphan() -> dict[str, int]:
    """A grandchild whose parent ends at once, and that ends a little later."""
    said = subprocess.run(
        ["/bin/sh", "-c", "sleep 0.2 >&- 2>&- & echo $!"], capture_output=True, check=True
    )
    return {"pid": int(said.stdout)}


@app.get("/threads")
def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


@app.get("/bug")
def bug() -> str:
    raise RuntimeError("a secret of the handler")


@app.post("/publish")
def publish(request: Request) -> dict[str, int]:
    return {"offset": app.publish("news", request.text())}


@app.websocket("/news")
async def news(ws: WebSocket) -> None:
    """Sends what was published since the offset that is asked for, and what the replay says. What
    is published live may come before that."""
    since, epoch = ws.query.get("since"), ws.query.get("epoch")
    got = ws.subscribe(
        "news",
        since=None if since is None else int(since),
        epoch=None if epoch is None else int(epoch),
    )
    await ws.send(f"* {got.epoch} {got.end} {got.messages} {got.complete}")
    async for _ in ws:
        pass


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
