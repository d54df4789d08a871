"""Mistakes that are easy to make get a sentence that names the place and the cure, or work."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import StartServer
from fanbus import Fanbus, HTTPError, Request, Response, RouteError, Router, WebSocket
from fanbus.parameters.signature import bind_signature
from fanbus.runtime.blocked_loop import Watch
from fanbus.testing import TestClient
from support.servers import DEADLINE_S, wait_for


@pytest.fixture(params=["plain", "wrap"])
def app(request: pytest.FixtureRequest) -> Fanbus:
    """Without and with something around its handlers, which then answer elsewhere."""
    app = Fanbus("hints")
    if request.param == "wrap":

        @app.after_request
        def after(_request: Request, response: Response) -> Response:
            return response

    return app


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, logger="fanbus"):
        yield caplog


def text_of(log: pytest.LogCaptureFixture) -> str:
    return "\n".join(
        f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}"
        for record in log.records
    )


def test_missing_await_is_an_error_that_names_it(
    app: Fanbus, logged: pytest.LogCaptureFixture
) -> None:
    async def found() -> dict[str, int]:
        return {"a": 1}

    @app.post("/json")
    async def body(request: Request) -> Any:
        return request.json()

    @app.post("/inside")
    async def inside(request: Request) -> Any:
        return {"got": request.json()}

    @app.post("/form")
    async def form(request: Request) -> Any:
        return request.form(), 201

    @app.get("/coroutine")
    def coroutine() -> Any:
        return found()

    with TestClient(app) as client:
        for path in ("/json", "/inside"):
            assert client.post(path, json={"a": 1}).status_code == 500
        assert client.post("/form", data={"a": "1"}).status_code == 500
        assert client.get("/coroutine").status_code == 500
    told = text_of(logged)
    assert told.count("Write `await` before the call that made it") == 3, told
    assert "as in `return await request.json()`" in told
    assert "POST /json" in told
    assert "found() was returned without being awaited. Write `return await" in told


def test_needless_await_is_reported_with_its_line(
    app: Fanbus, logged: pytest.LogCaptureFixture
) -> None:
    @app.get("/publish")
    async def publish() -> Any:
        await app.publish("a", "b")  # type: ignore[misc]

    @app.get("/other")
    async def other() -> Any:
        await 5  # type: ignore[misc]

    with TestClient(app) as client:
        assert client.get("/publish").status_code == 500
        assert client.get("/other").status_code == 500
    first, second = (record.getMessage() for record in logged.records)
    assert "publish() has done its work when it returns: remove `await` before it, at" in first
    assert f"{__file__}:" in first
    assert "remove `await`" not in second


def test_names_of_other_frameworks_are_answered_with_what_there_is() -> None:
    app = Fanbus("names")
    with pytest.raises(AttributeError, match=r"no attribute 'on_event'\. In Fanbus `@app\.on_star"):
        app.on_event("startup")  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"no attribute 'nothing'$"):
        app.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(app, "include_router")


def test_a_websocket_answers_names_of_other_frameworks(logged: pytest.LogCaptureFixture) -> None:
    app = Fanbus("names")

    @app.websocket("/{name}")
    async def room(ws: WebSocket, name: str) -> None:
        await ws.accept()
        await getattr(ws, name)("hello")

    with TestClient(app) as client:
        for name in ("send_text", "nothing", "send"):
            with client.websocket_connect(f"/{name}") as ws:
                if name == "send":
                    assert ws.recv() == "hello"
    told = text_of(logged)
    assert "in Fanbus `ws.send(text)` sends a str as text." in told
    assert "WebSocket' object has no attribute 'send_text'" in told
    assert "has no attribute 'nothing' " in f"{told} "


@pytest.mark.parametrize("on", [Fanbus("x"), Router()])
@pytest.mark.parametrize("name", ["get", "post", "route", "websocket", "turbo_route"])
def test_a_decorator_without_parentheses_names_its_function(on: Any, name: str) -> None:
    def handler() -> str:
        return "hello"

    with pytest.raises(RouteError, match=rf"@app\.{name} on .*handler.*{__file__}:\d+.*no path"):
        getattr(on, name)(handler)


def test_an_error_handler_for_all_errors_gets_a_sentence_of_a_422() -> None:
    app = Fanbus("told")

    @app.get("/")
    def typed(page: int) -> int:
        return page

    with TestClient(app) as client:
        assert client.get("/?page=x").json() == {
            "detail": [
                {"loc": ["query", "page"], "msg": "must be a whole number", "type": "invalid"}
            ]
        }
    own = Fanbus("own")

    @own.errorhandler(HTTPError)
    def answer(error: HTTPError) -> Any:
        return {"error": error.detail}

    own.get("/")(typed)
    with TestClient(own) as client:
        response = client.get("/?page=x")
        assert response.status_code == 422
        assert response.json() == {"error": "query page: must be a whole number"}


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_is_logged_with_method_and_path(
    asynchronous: bool, logged: pytest.LogCaptureFixture
) -> None:
    app = Fanbus("errors")

    def fail() -> Any:
        raise LookupError("lost")

    async def fail_too() -> Any:
        raise LookupError("lost")

    handler = fail_too if asynchronous else fail
    app.route("/fail", methods=["POST", "PUT"])(handler)
    app.get("/users/{user}")(lambda **_user: handler())
    with TestClient(app) as client:
        assert client.put("/fail").status_code == 500
        if not asynchronous:
            assert client.get("/users/ann").status_code == 500
    assert logged.records[0].getMessage().startswith("POST,PUT /fail")
    if not asynchronous:
        assert logged.records[1].getMessage().startswith("GET /users/{user}")


def test_a_body_is_read_when_its_handler_runs() -> None:
    """Many are started at a time: their models would all be in memory."""

    async def handler(body: dict[str, int]) -> Any:
        return body

    examined = bind_signature(handler, subject="request", path="/", path_parameters={})
    coroutine = examined.call(None)  # which is no request: nobody has looked at it yet
    with pytest.raises(TypeError):
        coroutine.send(None)


# The server


def test_run_at_import_by_a_test_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "chat.py").write_text(
        "from fanbus import Fanbus\napp = Fanbus()\napp.run(port=0)\n"
    )
    (tmp_path / "test_chat.py").write_text("import chat\n\ndef test_it():\n    assert chat.app\n")
    for runner in (["pytest", "-p", "no:cacheprovider"], ["unittest", "test_chat"]):
        done = subprocess.run(
            [sys.executable, "-m", *runner],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        told = done.stdout + done.stderr
        assert done.returncode != 0, told
        assert f"app.run() at {tmp_path / 'chat.py'}:3 was called while a test imported" in told
        assert 'Write `if __name__ == "__main__":` above it' in told


def test_a_file_may_be_named_instead_of_a_module(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "chat.py").write_text(
        "from fanbus import Fanbus\nother = app = Fanbus('x', openapi=True)\n"
        "@app.get('/hello')\ndef hello(): ...\n"
    )

    def openapi(target: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fanbus", "openapi", target, *more],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    for target in ("inside/chat.py", "inside/chat.py:other", str(folder / "chat.py")):
        assert '"/hello"' in openapi(target).stdout, target
    assert '"/hello"' in openapi("chat.py", "--app-dir", "inside").stdout
    missing = openapi("outside/chat.py")
    assert missing.returncode == 3
    assert missing.stderr == f"fanbus: File not found: {tmp_path / 'outside/chat.py'}.\n"


def test_what_blocks_the_event_loop_is_reported_with_its_line(
    logged: pytest.LogCaptureFixture,
) -> None:
    async def handler() -> None:
        wait_for(lambda: bool(logged.records), "the report")

    async def serve() -> None:
        watch = Watch(asyncio.get_running_loop())
        await asyncio.sleep(0)
        assert not logged.records
        await handler()
        watch.end()

    asyncio.run(serve())
    told = logged.records[0].getMessage()
    assert f"blocked for 0.5 s at {Path(wait_for.__code__.co_filename)}" in told
    assert "Make the handler `def`" in told
    assert len(logged.records) == 1


def test_a_loop_that_waits_is_not_reported(logged: pytest.LogCaptureFixture) -> None:
    async def serve() -> None:
        watch = Watch(asyncio.get_running_loop())
        asked = 0

        def count() -> None:
            nonlocal asked
            asked += 1

        loop = asyncio.get_running_loop()
        original = loop.call_soon_threadsafe

        def counting(*arguments: Any, **named: Any) -> Any:
            original(count)
            return original(*arguments, **named)

        loop.call_soon_threadsafe = counting  # type: ignore[method-assign,assignment]
        end = time.monotonic() + DEADLINE_S
        while asked < 4 and time.monotonic() < end:
            await asyncio.sleep(0.01)
        assert asked >= 4
        watch.end()

    asyncio.run(serve())
    assert not logged.records


def test_the_watch_is_there_with_debug_only(server: StartServer, tmp_path: Path) -> None:
    program = tmp_path / "threads.py"
    program.write_text(
        "import os, threading\nfrom fanbus import Fanbus\napp = Fanbus('threads')\n"
        "@app.get('/')\ndef names():\n"
        "    return [each.name for each in threading.enumerate()]\n"
        "app.run(port=0, debug='DEBUG' in os.environ, workers=1)\n"
    )
    for environment in ({"DEBUG": "1"}, {}):
        started = server(program, environment=environment)
        with started.http() as http:
            assert ("fanbus-watch" in http.get("/").json()) is bool(environment)
