"""The work of the handlers, the same for each server, so that only the servers are compared.

An application opens what its row needs, which is in NEEDS, and nothing else: that would count as
its memory.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pydantic import BaseModel

# A database at DATABASE, a slow service at SERVICE.
NEEDS = os.environ.get("NEEDS", "").split()
POOL = 10
ROWS = 20
BUSY_S = 0.05
SHORT_S = 0.003

opened: dict[str, Any] = {}


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    """Opens the connections that this row needs, on the event loop of the worker."""
    async with AsyncExitStack() as stack:
        for name in NEEDS:
            if name in OPENERS:
                opened[name] = await stack.enter_async_context(OPENERS[name]())
        yield


@asynccontextmanager
async def asyncpg_pool() -> AsyncIterator[Any]:
    import asyncpg

    async with asyncpg.create_pool(os.environ["DATABASE"], min_size=POOL, max_size=POOL) as pool:
        yield pool


@asynccontextmanager
async def sqlalchemy_sessions() -> AsyncIterator[Any]:
    from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

    url = os.environ["DATABASE"].replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(url, pool_size=POOL, max_overflow=0)
    try:
        yield async_sessionmaker(engine, expire_on_commit=False)
    finally:
        await engine.dispose()


@asynccontextmanager
async def psycopg_pool() -> AsyncIterator[Any]:
    from psycopg_pool import ConnectionPool

    with ConnectionPool(os.environ["DATABASE"], min_size=POOL, max_size=POOL) as pool:
        yield pool


@asynccontextmanager
async def httpx_client() -> AsyncIterator[Any]:
    import httpx

    async with httpx.AsyncClient(base_url=os.environ["SERVICE"], timeout=30) as client:
        yield client


@asynccontextmanager
async def aiohttp_session() -> AsyncIterator[Any]:
    import aiohttp

    async with aiohttp.ClientSession(os.environ["SERVICE"]) as session:
        yield session


OPENERS = {
    "asyncpg": asyncpg_pool,
    "sqlalchemy": sqlalchemy_sessions,
    "psycopg": psycopg_pool,
    "httpx": httpx_client,
    "aiohttp": aiohttp_session,
}


async def one_by_asyncpg() -> dict[str, Any]:
    row = await opened["asyncpg"].fetchrow("SELECT id, name, price FROM article WHERE id = $1", 7)
    return dict(row)


async def many_by_sqlalchemy() -> list[dict[str, Any]]:
    from tables import Article, select_articles

    async with opened["sqlalchemy"]() as session:
        found: list[Article] = (await session.scalars(select_articles(ROWS))).all()
    return [{"id": it.id, "name": it.name, "price": it.price, "made": it.made} for it in found]


def one_by_psycopg() -> dict[str, Any]:
    with opened["psycopg"].connection() as connection:
        found = connection.execute("SELECT id, name, price FROM article WHERE id = %s", (7,))
        number, name, price = found.fetchone()
    return {"id": number, "name": name, "price": price}


async def call_by_httpx() -> dict[str, Any]:
    answer: dict[str, Any] = (await opened["httpx"].get("/")).json()
    return answer


async def call_by_aiohttp() -> dict[str, Any]:
    async with opened["aiohttp"].get("/") as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def sleep() -> dict[str, bool]:
    await asyncio.sleep(0.1)
    return {"awake": True}


async def part(number: int) -> int:
    await asyncio.sleep(0)
    return number


async def gather() -> dict[str, int]:
    return {"sum": sum(await asyncio.gather(*map(part, range(20))))}


class Item(BaseModel):
    id: int
    name: str
    price: float
    count: int = 1


class Order(BaseModel):
    customer: str
    items: list[Item]


def item(number: int) -> Item:
    return Item(id=number, name=f"article {number}", price=number * 1.25, count=number % 7)


MODELS = {count: [item(number) for number in range(count)] for count in (100, 1000)}
BORN = datetime.datetime(2030, 12, 31, 23, 59, 59, 123456, tzinfo=datetime.UTC)
DATED = [
    {"id": number, "name": f"article {number}", "price": number * 1.25, "count": number % 7}
    | {"made": BORN + datetime.timedelta(days=number), "sold": None}
    for number in range(200)
]


def total(order: Order) -> dict[str, float]:
    return {"total": sum(it.price * it.count for it in order.items)}


def greeted(name: str, city: str) -> dict[str, str]:
    return {"greeting": f"{name} of {city}"}


def measured(picture: bytes) -> dict[str, int]:
    return {"bytes": len(picture)}


seen = 0


def compute(seconds: float) -> int:
    """Computes in Python for this CPU time, which excludes the time of waiting for a core."""
    until, rounds = time.thread_time() + seconds, 0
    while time.thread_time() < until:
        rounds += 1
    return rounds


async def every_tenth() -> dict[str, bool]:
    """The tenth request computes, and all others wait for the event loop."""
    global seen
    seen += 1
    is_tenth = seen % 10 == 0
    if is_tenth:
        compute(BUSY_S)
    return {"computed": is_tenth}


async def computing() -> dict[str, bool]:
    compute(SHORT_S)
    return {"computed": True}
