"""Handlers that keep the event loop for themselves, beside others whose answers are ready."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fanbus import Fanbus, HTTPError, Request, Response, WebSocket

DEADLINE_S = 20.0
who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

gates = {name: threading.Event() for name in ("first", "second", "own")}
held: list[str] = []
"""The gates at which the event loop stands, or stood."""
notes: list[str] = []


@asynccontextmanager
async def lifespan(_: Fanbus) -> AsyncIterator[None]:
    if os.environ.get("EAGER") and sys.version_info >= (3, 12):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    yield


app = Fanbus("answers", lifespan=lifespan)


@app.get("/lonely")
async def lonely_handler() -> None:
    await asyncio.Event().wait()  # that nobody else knows


@app.get("/lonely/count")
async def lonely_count() -> str:
    gc.collect()
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return str(sum(getattr(each, "__name__", "") == "lonely_handler" for each in coroutines))


turns = {"now": 0, "is_ending": False}
"""Turns of the event loop, as far as handlers of /turn have begun in them."""


@app.get("/turn")
async def turn() -> str:
    """Its first step takes long. In which turn it was taken, beside others."""
    now = turns["now"]
    if not turns["is_ending"]:
        turns["is_ending"] = True
        asyncio.get_running_loop().call_soon(end_turn)
    time.sleep(0.005)
    return str(now)


def end_turn() -> None:
    turns.update(now=turns["now"] + 1, is_ending=False)


def stand_at(gate: str) -> str:
    """Keeps the event loop until a thread opens the gate."""
    held.append(gate)
    return "opened" if gates[gate].wait(DEADLINE_S) else "never opened"


# Synchronous: they run while the event loop stands still.


@app.get("/open/{gate}")
def open_gate(gate: str) -> str:
    gates[gate].set()
    return gate


@app.get("/reset")
def reset() -> str:
    for gate in gates.values():
        gate.clear()
    held.clear()
    notes.clear()
    return "reset"


@app.get("/held")
def where() -> list[str]:
    return held


@app.get("/notes")
def what_was_noted() -> list[str]:
    return notes


@app.get("/hold/{gate}")
async def hold(gate: str) -> str:
    return stand_at(gate)


# What is ready while another handler keeps the event loop.


@app.get("/ready/answer")
async def answer() -> str:
    return "answer"


@app.get("/ready/later")
async def answer_after_a_turn() -> str:
    await asyncio.sleep(0)
    return "later"


@app.get("/ready/error")
async def error() -> str:
    raise ValueError("a bug that somebody gets to read")


@app.get("/ready/refusal")
async def refusal() -> str:
    raise HTTPError(409, "refused")


@app.get("/ready/stream")
async def stream() -> Response:
    async def pieces() -> AsyncIterator[str]:
        yield "piece"
        await asyncio.sleep(0)
        yield " and end"

    return Response(pieces())


@app.get("/ready/generator")
async def generator() -> Response:
    def pieces() -> Iterator[str]:
        yield "piece"
        yield " and end"

    return Response(pieces())


@app.get("/ready/from-a-thread")
def from_a_thread() -> Iterator[str]:
    yield "piece"
    yield " and end"


@app.turbo_websocket("/ready/admission", response_prefix="")
async def admission(request: Request) -> bool:
    return "refuse" not in request.query


@app.websocket("/ready/close")
async def close(ws: WebSocket) -> None:
    await ws.receive()


@app.websocket("/started")
async def started(ws: WebSocket) -> None:
    """Sends something, and then computes."""
    async for message in ws:
        await ws.send(f"started {message!s}")
        await ws.send(stand_at("own"))


# What comes out of a handler's task.


class Awaited:
    """What an `async def` that was compiled elsewhere may return: no coroutine of Python's own."""

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self


async def awaited() -> str:
    await asyncio.sleep(0)
    return f"awaited by {who.get()}"


def compiled() -> Awaited:
    return Awaited(awaited())


# As a decorator would, if it could see that this one is asynchronous.
app._router.add_http(
    ["GET"], "/awaited", compiled, asynchronous=True, arguments=[], place="", max_body_size=None
)


@app.get("/cancelled/by-itself")
async def cancels_itself() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return "not reached"


@app.get("/cancelled/too-late")
async def is_cancelled_as_it_returns() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    return "the answer"


@app.get("/cancel-others")
async def cancel_others() -> str:
    """All tasks but its own, as a library might; before they have begun, where they begin later."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    return str(len(others))


@app.get("/task")
async def task_as_others_see_it() -> dict[str, Any]:
    task = asyncio.current_task()
    assert task is not None
    coroutine: Any = task.get_coro()
    return {
        "repr": repr(task),
        "name": coroutine.__qualname__,
        "code": coroutine.cr_code.co_name,
        "running": coroutine.cr_running,
        "iscoroutine": asyncio.iscoroutine(coroutine),
        "stack": [frame.f_code.co_name for frame in task.get_stack()],
    }


# Context variables.


def note() -> None:
    notes.append(who.get())


@app.get("/context/stream/{kind}")
async def context_of_a_stream(kind: str) -> Response:
    before = who.get()
    who.set("the handler")

    async def pieces() -> AsyncIterator[str]:
        yield f"{before}, {who.get()}"

    def on_threads() -> Iterator[str]:
        yield f"{before}, {who.get()}"

    return Response(pieces() if kind == "async" else on_threads())


@app.get("/context/thread/{kind}")
def context_of_a_stream_from_a_thread(kind: str) -> Response:
    before = who.get()
    who.set("the handler")

    async def pieces() -> AsyncIterator[str]:
        yield f"{before}, {who.get()}"

    def on_threads() -> Iterator[str]:
        yield f"{before}, {who.get()}"

    return Response(pieces() if kind == "async" else on_threads())


async def note_later() -> None:
    await asyncio.sleep(0)
    note()


@app.get("/context/after/async")
async def context_after(request: Request) -> str:
    before = who.get()
    who.set("the handler")
    request.after_response(note)
    request.after_response(note_later)
    return before


@app.get("/context/after/thread")
def context_after_on_a_thread(request: Request) -> str:
    before = who.get()
    who.set("the handler")
    request.after_response(note)
    request.after_response(note_later)
    return before


# What handlers await of a WebSocket, as tasks.


@app.websocket("/tasks")
async def tasks(ws: WebSocket) -> None:
    sent = [asyncio.create_task(ws.accept()), asyncio.create_task(ws.send("first"))]
    assert await asyncio.gather(*sent) == [None, None]
    receiving = asyncio.create_task(ws.receive())
    await asyncio.sleep(0)
    receiving.cancel()
    try:
        await receiving
    except asyncio.CancelledError:
        await ws.send("cancelled")
    await ws.send(await asyncio.create_task(ws.receive()))
    for wrong in (ValueError("of a kind"), ValueError):
        try:
            ws.receive().throw(wrong)
        except ValueError as error:
            await asyncio.create_task(ws.send(f"thrown: {error}"))
    ws.receive().close()
    await asyncio.create_task(ws.close(4000))


# The order of what a handler sends and publishes.


@app.websocket("/order/{how}/{count:int}")
async def order(ws: WebSocket, how: str, count: int) -> None:
    ws.subscribe("order")
    await ws.receive()

    def both(number: int) -> None:
        if how.startswith("sent"):
            ws.send(f"sent {number}")
        app.publish("order", f"published {number}")
        if not how.startswith("sent"):
            ws.send(f"sent {number}")

    if how.endswith("thread"):
        await asyncio.to_thread(lambda: deque(map(both, range(count)), maxlen=0))
    elif how.endswith("task"):
        for number in range(count):
            await asyncio.sleep(0)  # no drain runs now
            both(number)
    else:
        for number in range(count):
            both(number)
    await ws.receive()


@app.websocket("/order/close")
async def order_of_a_close(ws: WebSocket) -> None:
    ws.subscribe("closing")
    await ws.receive()
    app.publish("closing", "the last words")
    await ws.close(4001)


@app.websocket("/order/unsubscribe")
async def order_of_an_end(ws: WebSocket) -> None:
    ws.subscribe("ending")
    await ws.receive()
    app.publish("ending", "while subscribed")
    ws.unsubscribe("ending")
    app.publish("ending", "no longer subscribed")
    await ws.send("the end")
    await ws.receive()


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
