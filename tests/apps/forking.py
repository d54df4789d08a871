"""Handlers that fork, and processes and functions that are to end with their worker."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

from fanbus import Fanbus, Request, WebSocket

app = Fanbus("forking")
context = multiprocessing.get_context("fork")
folder = Path(os.environ.get("FOLDER", "/tmp"))
started: list[object] = []
early = (folder / "early").open("a")  # before the fork
early.write("supervisor ")


def note(name: str) -> None:
    """Writes down when it happened, and in which process."""
    with (folder / name).open("a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\n")


atexit.register(note, "exited")
inherited = context.Process(target=time.sleep, args=(120,), daemon=True)
if os.environ.get("WITH_CHILD"):
    inherited.start()


@app.on_startup
def begin() -> None:
    if os.environ.get("FORK_EARLY"):
        fork()


@app.on_shutdown
async def end() -> None:
    note("shut-down")


def descriptors() -> dict[str, str]:
    """What each leads to."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found[entry.name] = str(entry.readlink())
    return found


def fork(say: Callable[[], object] = lambda: None) -> int:
    """A child that stays."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            os.write(writing, json.dumps(say()).encode())
            os.close(writing)
            time.sleep(120)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        started.append(json.loads(told.read()))
    note_child(pid)
    return pid


def note_child(pid: int) -> None:
    with (folder / "children").open("a") as file:
        file.write(f"{pid}\n")


if os.environ.get("FORK_AT_IMPORT"):
    fork()


@app.get("/pid")
async def pid() -> str:
    return str(os.getpid())


@app.get("/fork")
def fork_on_a_thread() -> dict[str, object]:
    before = descriptors()
    return {"pid": fork(descriptors), "worker": before, "child": started[-1]}


@app.get("/fork-on-the-loop")
async def fork_on_the_loop() -> dict[str, object]:
    before = descriptors()
    return {"pid": fork(descriptors), "worker": before, "child": started[-1]}


@app.get("/stay")
def stay() -> str:
    return str(fork())


@app.websocket("/echo")
async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)


@app.get("/process/{daemon:int}")
def process(daemon: int) -> str:
    child = context.Process(target=time.sleep, args=(120,), daemon=bool(daemon))
    child.start()
    started.append(child)
    assert child.pid is not None
    return str(child.pid)


@app.get("/pool")
def pool() -> list[int]:
    executor = ProcessPoolExecutor(1, mp_context=context)
    started.append(executor)
    return [executor.submit(os.getpid).result()]


@app.get("/busy-pool")
def busy_pool() -> list[int]:
    executor = ProcessPoolExecutor(1, mp_context=context)
    started.append(executor)
    pids = [executor.submit(os.getpid).result()]
    executor.submit(time.sleep, 120)
    return pids


@app.get("/thread")
def thread() -> str:
    executor = ThreadPoolExecutor(1)

    def work() -> None:
        time.sleep(0.3)
        note("worked")

    executor.submit(work)
    started.append(executor)
    return "begun"


@app.get("/endless")
def endless() -> str:
    threading.Thread(target=time.sleep, args=(120,), name="endless", daemon=False).start()
    return "begun"


@app.get("/write")
def write() -> str:
    late = (folder / "late").open("w")
    late.write("this was in a buffer")
    early.write("worker ")
    started.append(late)
    return "written"


@app.get("/hang")
def hang() -> str:
    atexit.register(hang_at_the_end)
    return "later"


def hang_at_the_end() -> None:
    time.sleep(120)


@app.get("/signals")
def signals() -> list[str]:
    def say() -> list[str]:
        return [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGQUIT)]

    fork(say)
    said = started[-1]
    assert isinstance(said, list)
    return said


@app.get("/task")
async def task(_: Request) -> str:
    started.append(asyncio.create_task(asyncio.sleep(120)))
    return "begun"


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
