"""A user's file, as type checkers read it: nothing here needs a cast or an ignore."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal

import msgspec

from fanbus import (
    Body,
    Cookie,
    EventStream,
    Fanbus,
    Header,
    HTTPError,
    OpenAPI,
    Path,
    Query,
    Request,
    Response,
    Router,
    ValidationError,
    WebSocket,
    WebSocketConfig,
)

app = Fanbus("annotated", openapi=OpenAPI(title="Annotated"))
router = Router(prefix="/api", name="api")


class Item(msgspec.Struct):
    name: str
    price: float = 0.0


@router.get("/items/{number}", tags=["items"], responses={404: "No such item"})
async def item(
    number: Annotated[int, Path(ge=1)],
    page: Annotated[int, Query(ge=1)] = 1,
    session: Annotated[str | None, Cookie()] = None,
    agent: Annotated[str, Header(alias="User-Agent")] = "",
) -> Item:
    if number > 3:
        raise HTTPError(404)
    return Item(f"{number}/{page}/{session}/{agent}")


@router.post("/items", deprecated=True)
def add(item: Item, count: int = 1) -> tuple[Item, Literal[201]]:
    return item, 201


@router.put("/sum", include_in_schema=False)
async def total(request: Request, numbers: Annotated[list[int], Body()]) -> dict[str, Any]:
    return {"path": request.path, "sum": sum(numbers)}


@app.errorhandler(ValidationError)
def wrong(request: Request, error: ValidationError) -> dict[str, str]:
    return {str(problem["loc"][-1]): problem["msg"] for problem in error.problems}


@app.middleware
async def timed(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    return await call_next(request)


@app.get("/stream")
async def stream(count: int = 3) -> AsyncIterator[str]:
    for number in range(count):
        yield str(number)


@app.get("/news")
def news() -> EventStream:
    return EventStream("news")


@app.websocket("/ws", config=WebSocketConfig(rate_limit=50))
async def chat(ws: WebSocket) -> None:
    ws.subscribe("news")
    async for message in ws:
        app.publish("news", message)


app.include(router)

if __name__ == "__main__":
    document: dict[str, Any] = app.openapi()
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
