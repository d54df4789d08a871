"""Handlers that send something ahead of their responses, and behind their bodies."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from fanbus import Fanbus, Request, Response, WebSocket

app = Fanbus("early_hints", compression=True)

STYLE = "</style.css>; rel=preload; as=style"
SCRIPT = "</script.js>; rel=preload; as=script"
go_on = asyncio.Event()


@app.middleware
async def hinting(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    if "middleware" in request.query:
        await request.send_early_hints({"link": "</middleware.css>"})
    return await call_next(request)


@app.get("/def")
def synchronous(request: Request) -> str:
    request.send_early_hints({"link": STYLE})
    request.send_early_hints([("link", SCRIPT), ("x-hint", "2")])
    return "def"


@app.get("/async")
async def asynchronous(request: Request) -> str:
    await request.send_early_hints({"link": STYLE})
    await asyncio.sleep(0)
    request.send_early_hints([("link", SCRIPT), ("x-hint", "2")])
    return "async"


@app.get("/waits")
async def waits(request: Request) -> str:
    """Answers only when another request says so: what came before it was sent at once."""
    go_on.clear()
    request.send_early_hints({"link": STYLE})
    await go_on.wait()
    return "waited"


@app.get("/go-on")
async def goes_on() -> str:
    go_on.set()
    return "ok"


@app.get("/refused/{case}")
def refused(request: Request, case: str) -> list[str]:
    """What is not a hint, as sentences."""
    given: Any = {
        "framing": {"Content-Length": "5"},
        "line": {"link": "a\r\nset-cookie: b"},
        "name": {"a b": "c"},
        "kind": 5,
        "many": {"link": STYLE},
    }[case]
    try:
        for _ in range(17):
            request.send_early_hints(given)
    except (ValueError, RuntimeError, TypeError) as error:
        return [type(error).__name__, str(error)]
    return []


late: list[str] = []


@app.get("/late")
async def too_late(request: Request) -> Response:
    async def pieces() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(0)
        try:
            request.send_early_hints({"link": STYLE})
        except RuntimeError as error:
            yield str(error)

    return Response(pieces())


@app.websocket("/ws")
async def socket(ws: WebSocket) -> None:
    await ws.send("hello")


# Trailers


@app.get("/digest/{how}")
def digest(how: str) -> Response:
    """The pieces, and behind them their digest."""
    found = {"content-digest": "", "server-timing": "db;dur=5"}
    hasher = hashlib.sha256()

    def lines() -> Iterator[bytes]:
        for number in range(300):
            piece = f"line {number}\n".encode()
            hasher.update(piece)
            yield piece
        found["content-digest"] = hasher.hexdigest()

    async def lines_async() -> AsyncIterator[bytes]:
        for line in lines():
            await asyncio.sleep(0)
            yield line

    pieces = lines_async() if how.startswith("async") else lines()
    if how.endswith("function"):
        return Response(pieces, trailers=lambda: [("content-digest", hasher.hexdigest())])
    return Response(pieces, trailers=found)


@app.get("/status/{status:int}")
def with_status(status: int) -> Response:
    return Response(iter(["body"]), status, trailers={"x-end": "1"})


@app.get("/stated")
def stated() -> Response:
    return Response(iter(["body"]), headers={"content-length": "4"}, trailers={"x-end": "1"})


@app.get("/fails/{case}")
def fails(case: str) -> Response:
    def pieces() -> Iterator[str]:
        yield "one"
        if case == "generator":
            raise LookupError("the generator")

    def raises() -> Mapping[str, str]:
        raise LookupError("the trailers")

    async def coroutine() -> Mapping[str, str]:
        return {}

    cases: dict[str, Any] = {
        "generator": {"x-end": "1"},
        "raises": raises,
        "forbidden": lambda: {"Content-Length": "5"},
        "line": lambda: {"x-end": "a\r\nb"},
        "coroutine": coroutine,
        "kind": lambda: 5,
        "known": {"Transfer-Encoding": "chunked"},
        "name": {"a b": "c"},
    }
    return Response(pieces(), trailers=cases[case])


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
