"""Tasks after the response that are under way when the worker ends, or while it streams."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator

from fanbus import Fanbus, Request

app = Fanbus("after_response")


def say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


@app.on_shutdown
def shut_down() -> None:
    say("shut down")


@app.post("/later")
def later(request: Request) -> str:
    async def task() -> None:
        await asyncio.sleep(0.3)
        say("the task is done")

    request.after_response(task)
    return "at once"


@app.post("/never")
def never(request: Request) -> str:
    async def task() -> None:
        say("never begins")
        await asyncio.Event().wait()

    request.after_response(task)
    return "at once"


@app.get("/streams")
def streams(request: Request) -> Iterator[str]:
    called = threading.Event()
    request.after_response(called.set)

    def pieces() -> Iterator[str]:
        yield "begun, "
        yield "called" if called.wait(20) else "not called"

    return pieces()


if __name__ == "__main__":
    app.run(
        port=int(os.environ["PORT"]),
        workers=int(os.environ["WORKERS"]),
        timeout_graceful_shutdown=float(os.environ["GRACE"]),
    )
