"""An application with a lifespan, which says on stderr what of it has run, and where."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fanbus import Fanbus

FAILS = os.environ.get("FAILS", "")


def say(what: str) -> None:
    main = threading.current_thread() is threading.main_thread()
    sys.stderr.write(f"{what} in {os.getpid()}{'' if main else ', elsewhere'}\n")
    sys.stderr.flush()
    if what == FAILS:
        raise LookupError(f"no {what}")
    if f"exit at {what}" == FAILS:
        sys.exit("no way")


@asynccontextmanager
async def lifespan(app: Fanbus) -> AsyncIterator[dict[str, int]]:
    say("entered")
    await asyncio.sleep(0)
    try:
        yield {"pid": os.getpid()}
    finally:
        say("left")


app = Fanbus(lifespan=lifespan)


@app.on_startup
def first() -> None:
    say("started")


@app.on_startup
async def second() -> None:
    await asyncio.sleep(0)
    app.publish("news", "a worker is there")
    app.state["news"] = True
    say("started too")
    if FAILS == "wait":
        await asyncio.Event().wait()


@app.on_shutdown
async def third() -> None:
    await asyncio.sleep(0)
    app.publish("news", "a worker goes")
    say("stopped")
    if FAILS == "wait at the end":
        await asyncio.Event().wait()


@app.on_shutdown
def fourth() -> None:
    say("stopped too")


@app.get("/")
def state() -> dict[str, object]:
    return app.state


@app.get("/slow")
async def slow() -> str:
    say("asked")
    await asyncio.sleep(0.3)
    say("answered")
    return "done"


if __name__ == "__main__":
    app.run(
        port=int(os.environ["PORT"]),
        workers=int(os.environ["WORKERS"]),
        timeout_graceful_shutdown=float(os.environ.get("GRACE", "10")),
    )
