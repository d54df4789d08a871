"""What is around HTTP handlers, and what comes after the response: over real sockets."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import StartServer
from fanbus import Fanbus, FanbusError, Router
from support.servers import Server, wait_for


@pytest.fixture(scope="module", params=["0", "1"], ids=["hooks", "middleware"])
def around(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    stderr = tmp_path_factory.mktemp("around") / "stderr"
    environment = {"MIDDLEWARE": request.param}
    with Server("middleware", workers=1, environment=environment, stderr=stderr) as server:
        yield server


@pytest.fixture
def http(around: Server) -> Iterator[httpx.Client]:
    with around.http() as http:
        yield http


@pytest.fixture(scope="module")
def with_middleware(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    stderr = tmp_path_factory.mktemp("with") / "stderr"
    with (
        Server("middleware", workers=1, environment={"MIDDLEWARE": "1"}, stderr=stderr) as server,
        server.http() as http,
    ):
        yield http


def test_all_of_it_is_called_in_its_order(with_middleware: httpx.Client) -> None:
    answer = with_middleware.get("/inner/trace")
    assert answer.headers["x-trace"].split(", ") == [
        "first in",
        "second in",
        "inner in",
        "before",
        "before inner",
        "handler",
        "after inner",
        "earlier",
        "after",
        "inner out",
        "second out",
        "first out",
    ]


def test_functions_before_and_after_are_called_in_order(http: httpx.Client) -> None:
    trace = http.get("/inner/trace").headers["x-after"].split(", ")
    assert [each for each in trace if not each.endswith(("in", "out"))] == [
        "before",
        "before inner",
        "handler",
        "after inner",
        "earlier",
        "after",
    ]


def test_a_router_is_around_its_own_routes_only(http: httpx.Client) -> None:
    assert "inner" not in http.get("/bare").headers["x-after"]


def test_a_synchronous_handler_gets_its_body_and_its_thread(http: httpx.Client) -> None:
    answer = http.post("/sync/ä", content="the body")
    assert answer.json() == {"name": "ä", "text": "the body", "main": False}
    answer = http.post("/async/b", content="the body")
    assert answer.json() == {"name": "b", "text": "the body"}


def test_what_a_handler_returns_is_understood_as_ever(http: httpx.Client) -> None:
    answer = http.get("/bare")
    assert (answer.status_code, answer.text, answer.headers["x-thing"]) == (201, "bare", "yes")
    assert http.get("/stream").text == "ab"
    assert http.head("/bare").status_code == 201


def test_a_function_before_may_answer(http: httpx.Client) -> None:
    answer = http.get("/bare", headers={"x-stop": "1"})
    assert (answer.status_code, answer.text) == (403, "stopped")
    assert "earlier" in answer.headers["x-after"]


def test_middleware_may_answer_alone(with_middleware: httpx.Client) -> None:
    answer = with_middleware.get("/bare", headers={"x-short": "1"})
    assert (answer.status_code, answer.json()) == (202, {"short": True})
    assert "x-after" not in answer.headers


def test_middleware_sees_what_a_handler_raises(with_middleware: httpx.Client) -> None:
    answer = with_middleware.get("/raise/key")
    # The application has a handler of the status 500, which is nearer to the handler.
    assert (answer.status_code, answer.text) == (500, "sorry for KeyError")


def test_what_middleware_raises_has_its_handler(with_middleware: httpx.Client) -> None:
    answer = with_middleware.get("/bare", headers={"x-break": "1"})
    assert (answer.status_code, answer.text) == (418, "Special at /bare")


def test_errors_go_to_their_handlers(http: httpx.Client, around: Server) -> None:
    answer = http.get("/raise/special")
    assert (answer.status_code, answer.text) == (418, "Special at /raise/special")
    answer = http.get("/raise/404")
    assert (answer.status_code, answer.json()) == (404, {"missing": "gone"})
    answer = http.get("/raise/409")
    assert (answer.status_code, answer.text, answer.headers["x-why"]) == (409, "clash\n", "this")
    answer = http.get("/raise/value")
    assert (answer.status_code, answer.text) == (500, "sorry for ValueError")
    around.wait_for_log("ValueError: v")  # who answers 500 hides it from the client only
    assert "in the middleware" not in around.log() or "Special" in around.log()


def test_a_routers_handler_of_errors_is_nearer(http: httpx.Client) -> None:
    answer = http.get("/inner/404")
    assert (answer.status_code, answer.text) == (404, "not in here")


def test_what_no_route_answers_goes_through_it_too(http: httpx.Client) -> None:
    answer = http.get("/nowhere?x=1")
    assert answer.status_code == 404
    assert answer.json() == {"missing": "Nothing is served at /nowhere"}
    assert "before" in answer.headers["x-after"]
    answer = http.delete("/bare")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert "before" in answer.headers["x-after"]
    assert http.post("/nowhere", content=b"x" * 100_000).status_code == 404
    answer = http.options("/bare")
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


# After the response


@pytest.mark.parametrize("headers", [{}, {"x-fail": "1"}], ids=["answered", "refused"])
def test_tasks_run_in_order_after_the_response(
    server: StartServer, headers: dict[str, str]
) -> None:
    one = server("middleware")
    with one.http() as http:
        answer = http.post("/later", headers=headers)
        assert answer.status_code == (409 if headers else 200)
        assert http.get("/done").json() == []
        http.post("/release")
        done = wait_for(lambda: len(got := http.get("/done").json()) == 2 and got, "both tasks")
        assert done == ["first task on a thread", "second"]
    one.wait_for_log("LookupError: a task that fails")
    assert "after POST /later" in one.log()


def test_tasks_are_waited_for_at_the_end(server: StartServer) -> None:
    one = server("after_response", environment={"GRACE": "10"})
    with one.http() as http:
        assert http.post("/later").text == "at once"
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    log = one.log()
    assert log.index("the task is done") < log.index("shut down")


def test_tasks_that_do_not_end_are_left(server: StartServer) -> None:
    one = server("after_response", environment={"GRACE": "0.1"})
    with one.http() as http:
        assert http.post("/never").text == "at once"
    one.wait_for_log("never begins")
    one.send_signal(signal.SIGTERM)
    assert one.wait() == 0
    assert "Functions after 1 responses did not end" in one.log()
    assert "shut down" in one.log()


def test_tasks_run_while_the_response_is_still_streamed(server: StartServer) -> None:
    with server("after_response", environment={"GRACE": "10"}).http() as http:
        assert http.get("/streams").text == "begun, called"


def test_after_the_response_it_is_too_late(http: httpx.Client) -> None:
    assert "handed over already" in http.get("/too-late").text


# What cannot be


def nothing() -> None: ...


def nothing_of_one(_: Any) -> None: ...


def nothing_of_two(_: Any, __: Any) -> None: ...


def declarations() -> list[Any]:
    return [Fanbus(), Router()]


@pytest.mark.parametrize("on", declarations(), ids=["app", "router"])
def test_what_cannot_be_called_is_refused(on: Any) -> None:
    with pytest.raises(FanbusError, match="must be async"):
        on.middleware(nothing_of_two)
    with pytest.raises(FanbusError, match=r"with request: write"):
        on.before_request(nothing)
    with pytest.raises(FanbusError, match="with request and response"):
        on.after_request(nothing_of_one)
    with pytest.raises(FanbusError, match="status from 400 to 599"):
        on.errorhandler(200)(nothing_of_one)
    with pytest.raises(FanbusError, match="status from 400 to 599"):
        on.errorhandler("404")(nothing_of_one)
    with pytest.raises(FanbusError, match="the request and the error"):
        on.errorhandler(404)(nothing_of_two)
    on.errorhandler(404)(nothing_of_one)
    with pytest.raises(FanbusError, match="is there twice"):
        on.errorhandler(404)(nothing_of_one)


def test_a_route_without_any_of_it_is_called_as_it_is(tmp_path: Path) -> None:
    """A router's hooks change nothing for the others: their handlers are not wrapped."""
    app = Fanbus()
    router = Router(prefix="/in")
    called: list[str] = []

    @app.get("/out")
    def outside() -> None: ...

    @router.get("/")
    def inside() -> None: ...

    @router.before_request
    def before(request: Any) -> None: ...

    app.include(router)
    real = app._router

    class Spy:
        def wrap_endpoint(
            self, endpoint: int, _function: Any, _is_async: bool, *, keeps: bool
        ) -> None:
            assert keeps is False
            called.append(str(endpoint))

    app._router = Spy()  # type: ignore[assignment]
    app._wrap_handlers(None, lambda: None)  # type: ignore[arg-type, return-value]
    app._router = real
    assert called == ["1"]
