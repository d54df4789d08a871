"""Threads that do at once what test_threads asks about."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from typing import Any

from fanbus import Fanbus, WebSocket, WebSocketClosed

app = Fanbus("threads")

THREADS = 4

# What no thread may meet, for the test to see.
problems: list[str] = []
# Changes all the time while `churns` is set.
shared: dict[str, Any] = {"inner": {}}
churns = threading.Event()


@app.get("/has-lock")
def has_lock() -> str:
    return str(getattr(sys, "_is_gil_enabled", lambda: True)())


@app.get("/thread")
def thread() -> str:
    sum(range(20_000))
    return str(threading.get_ident())


meeting = threading.Barrier(20)


@app.get("/meet/{seconds:float}")
def meet(seconds: float) -> str:
    """Returns when as many as there are at the barrier are here at the same time."""
    try:
        meeting.wait(seconds)
    except threading.BrokenBarrierError:
        return "alone"
    return "met"


met = threading.Event()


@app.get("/compute")
async def compute() -> str:
    """Keeps the event loop busy until a thread has met the others."""
    deadline = time.monotonic() + 30
    while not met.is_set() and time.monotonic() < deadline:
        sum(range(1000))
    return "computed"


@app.get("/meet-beside")
def meet_beside() -> str:
    answer = meet(25)
    met.set()
    return answer


@app.get("/publish/{who}/{count:int}")
def publish(who: str, count: int) -> None:
    for number in range(count):
        app.publish("all", f"{who} {number}")


@app.websocket("/all")
async def listen(ws: WebSocket) -> None:
    ws.subscribe("all")
    await ws.send("in")
    async for _ in ws:
        pass


@app.websocket("/sent-to")
async def sent_to(ws: WebSocket) -> None:
    """Several threads do everything with the WebSocket, until it is closed."""
    await ws.send("in")
    working = [asyncio.to_thread(work_with, ws, number) for number in range(THREADS)]
    await asyncio.gather(*working)


def work_with(ws: WebSocket, number: int) -> None:
    try:
        while True:
            ws.send("x" * 100)
            ws.subscribe(f"own:{number % 2}")
            ws.publish("own:0", "to the others")
            ws.unsubscribe(f"own:{number % 2}")
            ws.state[str(number)] = (ws.headers["host"], ws.close_code, dict(ws.query))
    except WebSocketClosed:
        return
    except BaseException as error:  # whatever it is, the test shall see it
        problems.append(repr(error))
        raise


@app.get("/churn")
def churn() -> None:
    churns.set()
    for number in range(THREADS):
        threading.Thread(target=change, args=(number,), daemon=True).start()


def change(number: int) -> None:
    """Lets dicts and lists grow and shrink."""
    inner = shared["inner"]
    while churns.is_set():
        for size in range(40):
            shared[f"{number} {size}"] = [size] * size
            inner[f"{number} {size}"] = 0.5
        for size in range(40):
            del shared[f"{number} {size}"], inner[f"{number} {size}"]


@app.get("/shared")
def give_shared() -> dict[str, Any]:
    return shared


@app.get("/rest")
def rest() -> None:
    churns.clear()


@app.get("/problems")
def give_problems() -> list[str]:
    return problems


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
