"""Every kind of function that runs on a thread: what it does is in the path."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fanbus import Fanbus, Request, Router, Session

app = Fanbus("handler_threads")
# Its `def` handlers run beside something asynchronous.
mixed = Router(prefix="/around")

MEETING = 6
# What functions on threads have done.
done: list[str] = []


def say(what: str) -> None:
    sys.stderr.write(f"<{what}>\n")
    sys.stderr.flush()


barriers = {
    kind: threading.Barrier(MEETING) for kind in ("handler", "around", "generator", "after", "hook")
}


def meets(kind: str) -> str:
    """Waits until as many as there are at the barrier are here at the same time."""
    try:
        barriers[kind].wait(20)
    except threading.BrokenBarrierError:
        return "alone"
    return "met"


def fails(kind: str) -> str:
    raise LookupError(f"this {kind} fails")


def blocks(kind: str) -> str:
    say(f"{kind} blocks")
    threading.Event().wait()
    return "never"


def do(kind: str, what: str) -> str:
    doing: dict[str, Callable[[str], str]] = {"meet": meets, "fail": fails, "block": blocks}
    return doing[what](kind)


def note(kind: str, what: str) -> None:
    done.append(f"{kind} {do(kind, what)}")


@mixed.before_request
async def on_the_loop(request: Request) -> None:
    request.state["seen"] = True


@app.get("/handler/{what}")
@mixed.get("/{what}")
def handler(request: Request, what: str) -> str:
    return do("around" if request.state else "handler", what)


@app.get("/generator/{what}")
def generator(what: str) -> Iterator[str]:
    yield "begun, "
    yield do("generator", what)


@app.get("/after/{what}")
def after(request: Request, what: str) -> str:
    request.after_response(note, "after", what)
    return "before"


@app.get("/after-the-end")
async def after_the_end(request: Request) -> str:
    """Afterwards on threads, once nobody looks at what they do any more."""
    request.after_response(wait_for_the_end)
    request.after_response(lambda: say(f"after the end: {meets('after')}"))
    return "before"


async def wait_for_the_end() -> None:
    say("waits for the end")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and "fanbus-io" in names_of_threads():
        await asyncio.sleep(0.01)


def names_of_threads() -> list[str]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            found.append((task / "comm").read_text().strip())
    return found


def opened(session: Session) -> None:
    note("hook", session.path_params["what"])


@app.turbo_websocket("/hook/{what}", response_prefix="", on_open=opened)
def all_in_rust() -> None: ...


@app.get("/done")
async def what_is_done() -> list[str]:
    return done


@app.on_shutdown
def shut_down() -> None:
    say("shut down")


app.include(mixed)

if __name__ == "__main__":
    app.run(
        port=int(os.environ["PORT"]),
        workers=1,
        timeout_graceful_shutdown=float(os.environ.get("GRACE", "30")),
    )
