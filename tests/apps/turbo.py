"""Answers that are kept: each says how often its function has been asked."""

from __future__ import annotations

import asyncio
import os
from collections import Counter

from fanbus import Fanbus, HTTPError, Request, Response

app = Fanbus("turbo", compression=True)
asked: Counter[str] = Counter()


def ask(name: str) -> int:
    asked[name] += 1
    return asked[name]


@app.turbo_route("/constant")
def constant() -> str:
    return f"asked {ask('constant')}"


@app.turbo_route("/short", cache_ttl=0.2)
async def short() -> str:
    return f"asked {ask('short')}"


@app.turbo_route("/items/{item:int}")
def item(request: Request, item: int) -> dict[str, object]:
    page = request.query.get("page")
    return {"item": item, "page": page, "asked": ask("item"), "method": request.method}


@app.turbo_route("/slow")
async def slow() -> str:
    await asyncio.sleep(0.3)
    return f"asked {ask('slow')}"


@app.turbo_route("/never/{how}")
def never(how: str) -> Response:
    response = Response(f"asked {ask(how)}")
    if how == "failing":
        raise RuntimeError("on purpose")
    if how == "unavailable":
        raise HTTPError(503)
    if how == "cookie":
        response.set_cookie("a", "b")
    if how in ("vary", "cache-control"):
        response.headers.append((how, "private"))
    return response


@app.turbo_route("/missing")
def missing() -> None:
    raise HTTPError(404, f"asked {ask('missing')}")


@app.turbo_route("/large")
def large() -> str:
    ask("large")
    return "large " * 1000


@app.get("/asked")
def count() -> dict[str, int]:
    return dict(asked)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
