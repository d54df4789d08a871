"""Says what it has understood of a request."""

from __future__ import annotations

import os
from typing import Any

from fanbus import Fanbus, Request

app = Fanbus("malformed_requests")


@app.route("/echo", methods=["GET", "POST"])
async def echo(request: Request) -> dict[str, Any]:
    body = await request.bytes()
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query_string,
        "pairs": request.query.pairs(),
        "host": request.headers.get("host"),
        "body": body.decode("latin-1"),
    }


@app.get("/paths/{path:path}")
def path(path: str) -> str:
    return path


@app.get("/users/{user}/{n:int}")
def user(request: Request, user: str, n: int, page: int = 1) -> list[Any]:
    return [user, n, page, request.cookies]


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
