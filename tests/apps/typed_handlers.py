"""Handlers whose annotations say what they read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pydantic

from fanbus import (
    Body,
    Cookie,
    Fanbus,
    Header,
    HTTPError,
    OpenAPI,
    Path,
    Query,
    Request,
    Router,
    ValidationError,
)

app = Fanbus(
    "typed",
    openapi=OpenAPI(
        title="A shop", version="2.1", description="What a test orders, and what it finds."
    ),
)
orders = Router(prefix="/orders", name="orders")
handled = Router(prefix="/handled")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Line(msgspec.Struct):
    article: Annotated[str, msgspec.Meta(min_length=1, max_length=40)]
    count: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1


class Order(msgspec.Struct):
    body: str
    """A field that a `Response` has, too."""
    lines: list[Line] = []
    colour: Colour | None = None


class Placed(msgspec.Struct):
    number: int
    order: Order


class Customer(pydantic.BaseModel, strict=True):
    name: Annotated[str, pydantic.Field(min_length=1)]
    born: date | None = None
    tags: list[str] = []


@dataclass
class Point:
    x: float
    y: float = 0.0


placed: dict[int, Order] = {}


@orders.get("/")
def find(
    text: str = "",
    page: Annotated[int, Query(ge=1, le=1000, description="Counted from 1.")] = 1,
    colours: list[Colour] = [],  # noqa: B006 - each request gets its own
    sort: Literal["newest", "oldest"] = "newest",
) -> dict[str, Any]:
    """Finds orders.

    All of them, if nothing is asked for.
    """
    given = [colour.value for colour in colours]
    colours.append(Colour.RED)
    return {"text": text, "page": page, "colours": given, "sort": sort}


@orders.post("/")
async def place(order: Order) -> tuple[Placed, Literal[201]]:
    """Places an order."""
    await asyncio.sleep(0)
    number = len(placed) % 1000 + 1
    placed[number] = order
    return Placed(number, order), 201


@orders.get("/{number}", responses={404: "There is no such order"})
async def order(number: Annotated[int, Path(ge=1)]) -> Order:
    """One order."""
    if number not in placed:
        raise HTTPError(404, "There is no such order")
    return placed[number]


@orders.put("/{number}/lines/{at:int}")
def change_line(number: int, at: Annotated[int, Path(le=99)], line: Line) -> Line:
    return line


@orders.delete("/{number}")
def cancel(number: int) -> None:
    placed.pop(number, None)


app.include(orders)


@app.post("/customers", tags=["people"])
def add_customer(customer: Customer, notify: bool = False) -> Customer:
    return customer


@app.post("/points", tags=["geometry"])
async def points(request: Request, points: list[Point], *, scale: float = 1.0) -> list[Point]:
    assert request.path == "/points"
    return [Point(point.x, point.y) for point in points]


@app.post("/sum", tags=["geometry"])
def total(numbers: Annotated[list[int], Body(description="What to add.")]) -> dict[str, int]:
    return {"sum": sum(numbers)}


@app.post("/perhaps")
def perhaps(point: Point | None = None) -> Point | None:
    return point


@app.get("/all")
async def everything(
    i: int,
    f: float,
    b: bool,
    s: str,
    u: UUID,
    d: date,
    t: datetime,
    c: Colour,
    n: Literal[1, 2],
    maybe: int | None,
    many: list[int],
) -> dict[str, Any]:
    return {
        "i": str(i),
        "f": repr(f),
        "b": b,
        "s": s,
        "u": u,
        "d": d,
        "t": t,
        "c": c,
        "n": n,
        "maybe": maybe,
        "many": [str(each) for each in many],
    }


@app.get("/heads")
def heads(
    x_agent: Annotated[str, Header()],
    limit: Annotated[int, Header(alias="X-Limit", ge=1)] = 10,
    accept_language: Annotated[list[str] | None, Header()] = None,
    session: Annotated[str | None, Cookie()] = None,
) -> dict[str, Any]:
    return {
        "agent": x_agent,
        "limit": limit,
        "languages": accept_language,
        "session": session,
    }


@app.get("/colours/{colour}")
def colour(colour: Colour) -> str:
    return colour.name


@app.get("/files/{path:path}")
def file(path: Annotated[str, Path(max_length=200)], line: int = 1) -> dict[str, Any]:
    return {"path": path, "line": line}


@app.turbo_route("/kept/{number}")
def kept(number: int, double: bool = False) -> dict[str, int]:
    return {"number": number * 2 if double else number}


@app.get("/stream")
async def stream(count: Annotated[int, Query(ge=0, le=10)]) -> AsyncIterator[str]:
    for number in range(count):
        yield f"{number}\n"


@app.get("/hidden", include_in_schema=False)
def hidden(n: int) -> str:
    return str(n)


@handled.errorhandler(ValidationError)
def refused(request: Request, error: ValidationError) -> dict[str, Any]:
    return {"path": request.path, "wrong": ["/".join(map(str, p["loc"])) for p in error.problems]}


@handled.get("/{number}", include_in_schema=False)
async def handled_one(number: int) -> int:
    raise AssertionError("nobody asks with a number")


app.include(handled)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
