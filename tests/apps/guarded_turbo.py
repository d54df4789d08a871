"""Turbo routes, one of them with a guard before it."""

import os
from typing import Any

from fanbus import Fanbus, Request, Router

app = Fanbus("guarded_turbo")
inner = Router(prefix="/in")


@inner.before_request
def guard(request: Request) -> Any:
    return None if "x-key" in request.headers else ("who are you?", 401)


@app.turbo_route("/turbo")
@inner.turbo_route("/turbo")
def turbo() -> str:
    return "kept"


app.include(inner)

if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
