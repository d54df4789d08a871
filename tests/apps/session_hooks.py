"""Turbo routes that tell Python of their sessions."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

from fanbus import Fanbus, HTTPError, Request, Session, WebSocketConfig

app = Fanbus("session_hooks")

# What hooks have seen, in their order.
seen: list[dict[str, Any]] = []
released = threading.Event()

small = WebSocketConfig(max_message_size=1000, max_connections=1000)


def note(what: str, session: Session) -> None:
    if path := os.environ.get("NOTES"):
        with Path(path).open("a") as notes:
            notes.write(f"{what} {session.close_code}\n")
    client = session.client
    seen.append(
        {
            "what": what,
            "id": session.id,
            "path_params": session.path_params,
            "query": dict(session.query),
            "header": session.headers.get("x-thing"),
            "client": None if client is None else client[1],
            "close_code": session.close_code,
            "close_reason": session.close_reason,
        }
    )


def opened(session: Session) -> None:
    note("open", session)


def closed(session: Session) -> None:
    note("close", session)


async def opened_later(session: Session) -> None:
    await asyncio.sleep(0)
    note("open", session)


async def closed_later(session: Session) -> None:
    # With NOTES it takes longer than a server does to end that waits for nobody.
    await asyncio.sleep(0.5 if "NOTES" in os.environ else 0)
    note("close", session)


def waits_on_a_thread(session: Session) -> None:
    note("begun", session)
    released.wait()
    note("open", session)


async def holds_the_loop(session: Session) -> None:
    note("begun", session)
    released.wait()  # as bad as a hook can be
    note("open", session)


async def fails(session: Session) -> None:
    note("open", session)
    raise ValueError("this hook fails")


@app.turbo_websocket(
    "/sync/{name}", broadcast="t:{name}", config=small, on_open=opened, on_close=closed
)
@app.turbo_websocket(
    "/async/{name}", response_prefix="", config=small, on_open=opened_later, on_close=closed_later
)
@app.turbo_websocket("/end/{name}", response_prefix="", on_close=closed)
@app.turbo_websocket(
    "/thread/{name}", response_prefix="", on_open=waits_on_a_thread, on_close=closed_later
)
@app.turbo_websocket("/loop/{name}", broadcast="t:{name}", on_open=holds_the_loop, on_close=closed)
@app.turbo_websocket("/fails/{name}", response_prefix="", on_open=fails, on_close=closed)
def all_in_rust() -> None: ...


@app.turbo_websocket("/guarded/{name}", response_prefix="", on_open=opened, on_close=closed)
def guarded(request: Request, name: str) -> None:
    if name == "nobody":
        raise HTTPError(403, "not you")


@app.get("/seen/{name}")
def look(name: str) -> list[dict[str, Any]]:
    return [one for one in list(seen) if one["path_params"]["name"] == name]


@app.post("/release")
def release() -> dict[str, bool]:
    released.set()
    return {}


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=1)
