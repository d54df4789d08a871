"""Answers each request with what was understood of it."""

from __future__ import annotations

import os
from typing import Any

from fanbus import Fanbus, Request

app = Fanbus("mirror")

seen: list[str] = []
"""The targets of the requests so far, but for those that ask for it."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@app.get("/seen")
def what_was_seen() -> list[str]:
    return seen


@app.route("/", methods=METHODS)
@app.route("/{rest:path}", methods=METHODS)
def mirror(request: Request) -> dict[str, Any]:
    seen.append(f"{request.method} {request.path}")
    major, _, minor = request.http_version.partition(".")
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query_string,
        "version": [int(major), int(minor or 0)],
        "headers": [[name.upper(), value] for name, value in request.headers.pairs()],
        "body": request.bytes().decode("latin-1"),
    }


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
