"""What HTTP/1 itself is tried with: bodies, streams, and responses that may not have content."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from fanbus import Fanbus, HTTPError, Request, Response, Router

app = Fanbus("http1")


@app.get("/")
def hello() -> str:
    return "hello"


@app.get("/closes")
def closes() -> Response:
    return Response("the end", headers={"Connection": "close"})


@app.get("/later")
async def later() -> str:
    await asyncio.sleep(0.05)
    return "later"


@app.post("/length")
async def length(request: Request) -> str:
    return str(len(await request.bytes()))


@app.get("/stream")
async def stream() -> AsyncIterator[str]:
    for number in range(3):
        await asyncio.sleep(0)
        yield f"piece {number}\n"


@app.get("/stream/sync")
def stream_sync() -> Iterator[str]:
    for number in range(3):
        yield f"piece {number}\n"


@app.get("/nothing/{status:int}/tuple")
def as_tuple(status: int) -> tuple[dict[str, bool], int]:
    return {"ok": True}, status


@app.get("/nothing/{status:int}/async")
async def as_response(status: int) -> Response:
    return Response("text", status)


@app.get("/nothing/{status:int}/generator")
def as_generator(status: int) -> Response:
    return Response(iter(["a", "b"]), status)


@app.get("/nothing/{status:int}/file")
def as_file(status: int) -> Response:
    response = Response.file(Path(__file__))
    response.status = status
    return response


@app.get("/nothing/{status:int}/error")
def as_error(status: int) -> None:
    raise HTTPError(418, str(status))


@app.errorhandler(418)
def teapot(error: HTTPError) -> Any:
    return "a body", int(error.detail)


@app.turbo_route("/nothing/{status:int}/turbo")
def as_turbo(status: int) -> tuple[str, int]:
    return "a body", status


surrounded = Router(prefix="/nothing/{status:int}")


@surrounded.middleware
async def replacing(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.status = request.path_params["status"]
    return response


@surrounded.get("/middleware")
def behind_middleware() -> str:
    return "a body"


@surrounded.get("/middleware-stream")
async def stream_behind_middleware() -> AsyncIterator[str]:
    yield "a body"


app.include(surrounded)


@app.get("/nothing/{status:int}/stated")
def as_stated(status: int) -> Response:
    return Response("a body", status, headers={"Content-Length": "6"})


@app.put("/unread")
async def unread() -> str:
    return "unread"


@app.put("/small", max_body_size=10)
async def small(request: Request) -> str:
    return str(len(await request.bytes()))


@app.put("/pieces", stream_body=True)
async def pieces(request: Request) -> str:
    return str(sum([len(piece) async for piece in request.stream()]))


@app.get("/host")
def host(request: Request) -> list[str]:
    return request.headers.get_all("host")


@app.get("/stated/{length:int}")
def stated(length: int) -> Response:
    return Response(iter(["12", "345"]), headers={"Content-Length": str(length)})


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]), log_level="debug")
