"""A handler for each thing that people do with asyncio in one, which test_mailbox asks about."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fanbus import Fanbus, Request, WebSocket, WebSocketClosed

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
since_import: contextvars.ContextVar[str] = contextvars.ContextVar("since_import")
since_import.set("there")

# What handlers that ended on their own saw, by the name that the client gave.
ends: dict[str, str] = {}
# Keeps the threads of synchronous handlers in them while it is not set.
gate = threading.Event()


@asynccontextmanager
async def lifespan(_: Fanbus) -> AsyncIterator[None]:
    if os.environ.get("EAGER") and sys.version_info >= (3, 12):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    yield


app = Fanbus("asyncio_tasks", lifespan=lifespan)


@app.get("/loop")
async def loop() -> str:
    return type(asyncio.get_running_loop()).__module__


@app.get("/task")
async def task_of_a_request() -> str:
    before = asyncio.current_task()
    await asyncio.sleep(0)
    same = before is not None and before is asyncio.current_task()
    return "the same" if same else "another"


@app.websocket("/task")
async def task_of_a_session(ws: WebSocket) -> None:
    """Says after each message whether it still runs in the task that it began in."""
    begun = asyncio.current_task()
    async for _ in ws:
        same = begun is not None and begun is asyncio.current_task()
        await ws.send("the same" if same and begun in asyncio.all_tasks() else "another")


@app.websocket("/timeout")
async def timeout(ws: WebSocket) -> None:
    """Gives up the first message after a moment, and waits on as long as it takes."""
    await ws.accept()
    try:
        if sys.version_info >= (3, 11):
            async with asyncio.timeout(0.01):
                await ws.receive()
        else:
            await asyncio.wait_for(ws.receive(), 0.01)
    except asyncio.TimeoutError:
        await ws.send("nothing yet")
    async for message in ws:
        await ws.send(message)


@app.websocket("/timeout/room")
async def timeout_of_a_sender(ws: WebSocket) -> None:
    """Gives up sending when the client does not take it, and goes on when it does."""
    assert await ws.receive() == "begin"
    sent = 0

    async def send() -> None:
        nonlocal sent
        while True:
            sent += 1
            await ws.send("x" * 100_000)

    try:
        await asyncio.wait_for(send(), 0.2)
    except asyncio.TimeoutError:
        await ws.send(f"gave up after {sent}")
    async for message in ws:
        await ws.send(message)


if sys.version_info >= (3, 11):

    @app.websocket("/group")
    async def group(ws: WebSocket) -> None:
        """One task of a group fails while another receives. Then it receives by itself."""
        await ws.accept()
        failed = asyncio.Event()

        async def receive() -> None:
            try:
                await ws.receive()
            except asyncio.CancelledError:
                failed.set()
                raise

        async def fail() -> None:
            await asyncio.sleep(0)
            raise ValueError("of a task")

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(receive())
                tasks.create_task(fail())
        except Exception as errors:  # noqa: BLE001 - Python 3.10 knows no ExceptionGroup
            kinds = [type(error).__name__ for error in getattr(errors, "exceptions", ())]
            await ws.send(f"{kinds}, cancelled: {failed.is_set()}")
        async for message in ws:
            await ws.send(message)

    @app.websocket("/group/fails")
    async def group_fails(ws: WebSocket) -> None:
        await ws.accept()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_fail("one"))
            tasks.create_task(_fail("two"))

    @app.get("/group/fails")
    async def group_of_a_request_fails() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_fail("one"))
            tasks.create_task(_fail("two"))


async def _fail(what: str) -> None:
    await asyncio.sleep(0)  # a group of eager tasks takes no more when one has failed at once
    raise LookupError(f"the {what} of a group")


@app.websocket("/first-of-two")
async def first_of_two(ws: WebSocket) -> None:
    """Waits for a message and for something else, and keeps on waiting for the message."""
    await ws.accept()
    message = asyncio.ensure_future(ws.receive())
    other = asyncio.create_task(asyncio.sleep(0.01, "the other"))
    done, _ = await asyncio.wait({message, other}, return_when=asyncio.FIRST_COMPLETED)
    await ws.send(", ".join(str(each.result()) for each in done))
    await ws.send(await message)


@app.websocket("/two-receive")
async def two_receive(ws: WebSocket) -> None:
    """The usual mistake."""
    both = [asyncio.ensure_future(ws.receive()), asyncio.ensure_future(ws.receive())]
    await asyncio.sleep(0)  # they have begun
    await ws.send("in")
    results = await asyncio.gather(*both, return_exceptions=True)
    await ws.send(" | ".join(str(result) for result in results))


@app.websocket("/context/{name}")
async def context(ws: WebSocket, name: str) -> None:
    """Context variables are a handler's own, also in tasks of it, and stay over an await."""

    async def in_a_task() -> str:
        return who.get()

    before = who.get()
    who.set(name)
    async for _ in ws:
        told = await asyncio.create_task(in_a_task())
        await ws.send(f"{before} {who.get()} {told} {since_import.get()}")


@app.get("/context/async/{name}")
async def context_of_a_request(name: str) -> str:
    before = who.get()
    who.set(name)
    await asyncio.sleep(0)
    return f"{before} {who.get()} {since_import.get()}"


@app.get("/context/sync/{name}")
def context_of_a_thread(name: str) -> str:
    before = who.get()
    who.set(name)
    return f"{before} {who.get()} {since_import.get()} {threading.get_ident()}"


@app.turbo_websocket("/context/admitted/{name}", response_prefix="")
def context_of_an_admission(_: Request, name: str) -> bool:
    before = who.get()
    who.set(name)
    return before == "nobody"


@app.websocket("/cancelled/{name}")
async def cancelled(ws: WebSocket, name: str) -> None:
    """Cancels itself, as a library does that it uses."""
    await ws.accept()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.01, task.cancel, "enough")
    try:
        await ws.receive()
    except asyncio.CancelledError as error:
        ends[name] = f"cancelled: {error}"
        raise


@app.websocket("/deaf/{name}")
async def deaf(ws: WebSocket, name: str) -> None:
    """Waits for something that never comes, and does not look at its client."""
    await ws.send("in")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        ends[name] = f"cancelled, closed with {ws.close_code}"
        raise


@app.websocket("/patient")
async def patient(ws: WebSocket) -> None:
    """Receives nothing until it is allowed to; then says how often, and in which order."""
    await ws.send("in")
    while not gate.is_set():
        await asyncio.sleep(0.01)
    expected = 0
    try:
        while True:
            assert str(await ws.receive()).startswith(f"{expected} ")
            expected += 1
            if expected % 100 == 0:
                await ws.send(str(expected))
    except WebSocketClosed:
        pass


@app.get("/ends/{name}")
async def end_of(name: str) -> str:
    return ends.get(name, "")


@app.get("/wait")
def wait() -> str:
    return "waited" if gate.wait(60) else "not in time"


@app.get("/open")
async def open_gate() -> None:
    gate.set()


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
