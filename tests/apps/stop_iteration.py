"""A StopIteration from each `def` that runs on a thread for the event loop."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from fanbus import Fanbus, Request, Response, Router, Session

app = Fanbus("stop_iteration")


async def through(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    return await call_next(request)


def fail(*_: Any) -> Any:
    return next(iter(()))  # the usual mistake


class Odd(Exception):  # noqa: N818 - a fact
    pass


async def odd() -> None:
    raise Odd


in_handler, before, after, of_error = (
    Router(prefix=f"/{name}") for name in ("handler", "before", "after", "error")
)
for router in (in_handler, before, after, of_error):
    router.middleware(through)
in_handler.get("/")(lambda: fail())
before.before_request(lambda request: fail(request))
before.get("/")(lambda: "never")
after.after_request(lambda request, response: fail(request, response))
after.get("/")(lambda: "never")
of_error.errorhandler(Odd)(lambda request, error: fail(request, error))
of_error.get("/")(odd)
for router in (in_handler, before, after, of_error):
    app.include(router)


@app.get("/background/")
async def background(request: Request) -> str:
    request.after_response(fail)
    return "begun"


def opened(session: Session) -> None:
    fail(session)


@app.turbo_websocket("/hooked", response_prefix="", on_open=opened)
def hooked() -> None:
    """Everybody may come in."""


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
