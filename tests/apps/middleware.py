"""Middleware, functions before and after, handlers of errors, and tasks after the response."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from fanbus import Fanbus, HTTPError, Request, Response, Router

app = Fanbus("middleware")
inner = Router(prefix="/inner")
outermost = Router(prefix="/plain")
done: list[str] = []
released = threading.Event()


def trace(request: Request, what: str) -> None:
    request.state.setdefault("trace", []).append(what)


class Teapot(Exception):  # noqa: N818 - a fact
    pass


class Special(Teapot):
    pass


if os.environ.get("MIDDLEWARE") == "1":

    @app.middleware
    async def first(request: Request, call_next: Callable[[Request], Any]) -> Any:
        trace(request, "first in")
        if "x-short" in request.headers:
            return {"short": True}, 202
        try:
            response = await call_next(request)
        except KeyError as error:
            return Response(f"caught {error}", 418)
        trace(request, "first out")
        response.headers.append(("x-trace", ", ".join(request.state["trace"])))
        return response

    @app.middleware
    async def second(request: Request, call_next: Callable[[Request], Any]) -> Any:
        trace(request, "second in")
        response = await call_next(request)
        trace(request, "second out")
        if "x-break" in request.headers:
            raise Special("in the middleware")
        return response

    @inner.middleware
    async def third(request: Request, call_next: Callable[[Request], Any]) -> Any:
        trace(request, "inner in")
        response = await call_next(request)
        trace(request, "inner out")
        return response


@app.before_request
def before(request: Request) -> Any:
    trace(request, "before")
    return Response("stopped", 403) if "x-stop" in request.headers else None


@inner.before_request
async def before_inner(request: Request) -> None:
    await asyncio.sleep(0)
    trace(request, "before inner")


@app.after_request
def after(request: Request, response: Response) -> None:
    trace(request, "after")
    response.headers.append(("x-after", ", ".join(request.state["trace"])))


@app.after_request
def earlier(request: Request, response: Response) -> Response:
    trace(request, "earlier")
    return response


@inner.after_request
async def after_inner(request: Request, response: Response) -> None:
    trace(request, "after inner")


@app.errorhandler(404)
def not_found(error: HTTPError) -> dict[str, str]:
    return {"missing": error.detail}


@app.errorhandler(Teapot)
async def teapot(request: Request, error: Teapot) -> Any:
    return f"{type(error).__name__} at {request.path}", 418


@inner.errorhandler(404)
def not_found_inside() -> str:
    return "not in here"


@app.errorhandler(500)
def broken(error: Exception) -> str:
    return f"sorry for {type(error).__name__}"


@app.get("/sync/{name}")
def sync(name: str, request: Request) -> dict[str, Any]:
    main = threading.current_thread() is threading.main_thread()
    return {"name": name, "text": request.text(), "main": main}


@app.post("/sync/{name}")
def sync_post(request: Request, name: str) -> dict[str, Any]:
    return sync(name, request)


@app.post("/async/{name}")
async def asynchronous(name: str, request: Request) -> dict[str, Any]:
    return {"name": name, "text": await request.text()}


@app.get("/bare")
def bare() -> tuple[str, int, dict[str, str]]:
    return "bare", 201, {"X-Thing": "yes"}


@app.get("/stream")
async def stream() -> AsyncIterator[str]:
    yield "a"
    yield "b"


@app.get("/raise/{what}")
def fail(what: str) -> None:
    raise {
        "special": Special("x"),
        "404": HTTPError(404, "gone"),
        "409": HTTPError(409, "clash", headers={"X-Why": "this"}),
        "key": KeyError("k"),
        "value": ValueError("v"),
    }[what]


@inner.get("/trace")
async def traced(request: Request) -> dict[str, Any]:
    trace(request, "handler")
    return {}


@inner.get("/404")
def raises_404() -> None:
    raise HTTPError(404, "inside")


@app.post("/later")
async def later(request: Request) -> str:
    def first_task(what: str, *, more: str) -> None:
        released.wait(20)
        main = threading.current_thread() is threading.main_thread()
        done.append(f"{what} {more} {'on the loop' if main else 'on a thread'}")

    async def second_task() -> None:
        await asyncio.sleep(0)
        done.append("second")

    def failing() -> None:
        raise LookupError("a task that fails")

    request.after_response(first_task, "first", more="task")
    request.after_response(failing)
    request.after_response(second_task)
    if "x-fail" in request.headers:
        raise HTTPError(409)
    return "at once"


@app.get("/done")
def what_is_done() -> list[str]:
    return done


@app.post("/release")
def release() -> None:
    released.set()


@app.get("/too-late")
async def too_late(request: Request) -> AsyncIterator[str]:
    try:
        request.after_response(print)
    except RuntimeError as error:
        yield str(error)


app.include(inner)

if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), workers=int(os.environ["WORKERS"]))
