"""An HTTP route for each thing that test_http asks about."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from fanbus import Fanbus, HTTPError, Request, Response

app = Fanbus("web")

# Two synchronous handlers that only return when both are running.
both = threading.Barrier(2, timeout=20)
# The same for asynchronous ones.
first_is_here = asyncio.Event()


@app.route("/")
def hello() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.get("/async")
async def hello_async() -> dict[str, str]:
    return {"message": "Hello, World!"}


@app.get("/list")
def numbers() -> list[int]:
    return [1, 2, 3]


@app.get("/text")
def text() -> str:
    return "Grüße"


@app.get("/bytes")
def binary() -> bytes:
    return bytes(range(256))


@app.get("/response")
async def response() -> Response:
    answer = Response("<b>bold</b>", 201, {"X-Thing": "yes"}, "text/html; charset=utf-8")
    answer.set_cookie("a", "1", httponly=True)
    answer.set_cookie("b", "2")
    return answer


@app.get("/redirect")
def redirect() -> Response:
    return Response.redirect("/text")


@app.get("/users/{user_id:int}")
async def user(request: Request, user_id: int) -> dict[str, Any]:
    return {"user_id": user_id, "path_params": dict(request.path_params)}


@app.get("/flask/<int:number>/<name>")
def flask_spelling(number: int, name: str) -> dict[str, Any]:
    return {"number": number, "name": name}


@app.get("/names/{name}")
def name(name: str) -> dict[str, str]:
    return {"name": name}


@app.get("/files/{path:path}")
def file(path: str) -> dict[str, str]:
    return {"path": path}


@app.get("/ratio/{value:float}")
def ratio(value: float) -> dict[str, float]:
    return {"value": value}


@app.get("/default/{name}")
def default(name: str, greeting: str = "Hello") -> str:
    return f"{greeting} {name}"


@app.get("/keyword/{one}/{two}")
def keyword(*, two: str, one: str) -> list[str]:
    return [one, two]


@app.get("/about")
def about(request: Request) -> dict[str, Any]:
    return {
        "method": request.method,
        "path": request.path,
        "query": dict(request.query),
        "header": request.headers.get("x-thing"),
        "cookies": dict(request.cookies),
        "client": request.client,
    }


@app.post("/json")
async def json_async(request: Request) -> Any:
    return {"got": await request.json()}


@app.post("/json/sync")
def json_sync(request: Request) -> Any:
    return {"got": request.json()}


@app.post("/length")
async def length(request: Request) -> dict[str, int]:
    return {"bytes": len(await request.bytes())}


@app.post("/text/sync")
def text_sync(request: Request) -> str:
    return str(request.text())


@app.route("/many", methods=["PUT", "PATCH"])
def many(request: Request) -> str:
    return request.method


@app.delete("/many")
def many_delete() -> str:
    return "gone"


@app.get("/error/{status:int}")
def error(status: int) -> str:
    raise HTTPError(status, "because I say so", headers={"X-Reason": "test"})


@app.get("/bug")
def bug() -> str:
    raise RuntimeError("a secret of the handler")


@app.get("/bug/async")
async def bug_async() -> str:
    await asyncio.sleep(0)
    raise RuntimeError("a secret of the handler")


@app.get("/unserializable")
def unserializable() -> dict[str, object]:
    return {"what": object()}


@app.get("/meet")
def meet() -> str:
    both.wait()
    return "met"


@app.get("/wait-for-other")
async def wait_for_other() -> str:
    await first_is_here.wait()
    return "waited"


@app.get("/be-the-other")
async def be_the_other() -> str:
    first_is_here.set()
    return "came"


@app.get("/slow/{seconds:float}")
async def slow(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@app.get("/pid")
def pid() -> dict[str, int]:
    return {"pid": os.getpid()}


if __name__ == "__main__":
    app.run(
        port=int(os.environ["PORT"]),
        workers=int(os.environ["WORKERS"]),
        debug=os.environ.get("DEBUG") == "1",
    )
