"""Event streams and turbo routes together with everything that is around routes."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from conftest import StartServer
from fanbus import EventStream, Fanbus, HTTPError, Request, Response, Router
from fanbus.testing import TestClient, TestServer

PAGE = "https://page.example"


class Application:
    """An event stream and a turbo route, in a router, with what is asked for around them."""

    def __init__(self, *around: str) -> None:
        self.app = Fanbus("combined", compression=True)
        self.app.cors(origins=[PAGE], expose=["x-after"])
        self.asked: Counter[str] = Counter()
        self.router = router = Router(prefix="/in/{place}", name="inner")
        for name in around:
            getattr(self, name)()

        @router.get("/news")
        async def news(place: str, request: Request) -> EventStream:
            if "x-refused" in request.headers:
                raise HTTPError(403, "not for you")
            if "x-broken" in request.headers:
                raise LookupError("on purpose")
            return EventStream(f"news:{place}", headers={"x-stream": "yes"}, last=5)

        @router.get("/sync")
        def sync(place: str) -> Any:
            return EventStream(f"news:{place}"), 200, {"x-tuple": "yes"}

        @router.turbo_route("/turbo", cache_ttl=600)
        async def turbo(place: str) -> dict[str, Any]:
            self.asked[place] += 1
            if place == "missing":
                raise HTTPError(404, "no such place")
            return {"asked": self.asked[place], "fill": "x" * 2000}

        self.app.include(router)

    def guard(self) -> None:
        @self.router.before_request
        def guard(request: Request) -> Any:
            return None if "x-key" in request.headers else ("who are you?", 401)

    def middleware(self) -> None:
        @self.app.middleware
        async def around(request: Request, call_next: Callable[[Request], Any]) -> Any:
            self.asked["middleware"] += 1
            response = await call_next(request)
            response.headers.append(("x-middleware", str(self.asked["middleware"])))
            response.set_cookie("seen", "yes")
            return response

    def after(self) -> None:
        @self.app.after_request
        def after(request: Request, response: Response) -> None:
            response.headers.append(("x-after", request.path))

    def errors(self) -> None:
        @self.app.errorhandler(403)
        async def refused(error: Exception) -> Any:
            return {"refused": str(error)}

        @self.app.errorhandler(LookupError)
        def broken(error: Exception) -> Any:
            return {"broken": str(error)}, 500

    def publish(self, message: str) -> None:
        self.app.publish("news:a", message)


ALL = ("middleware", "after", "errors")


@contextmanager
def streamed(client: httpx.Client, path: str, **headers: str) -> Iterator[httpx.Response]:
    """A stream from which the first block has come."""
    with client.stream("GET", path, headers=headers) as response:
        yield response


def next_data(lines: Iterator[str]) -> str:
    return next(line for line in lines if line.startswith("data: ")).removeprefix("data: ")


@pytest.mark.parametrize("around", [(), ("after",), ("errors",), ALL])
@pytest.mark.parametrize("path", ["/in/a/news", "/in/a/sync"])
def test_an_event_stream_is_a_response_like_any_other(around: tuple[str, ...], path: str) -> None:
    made = Application(*around)
    with TestClient(made.app) as client, streamed(client, path, origin=PAGE) as response:
        head = response.headers
        assert (response.status_code, head["content-type"]) == (200, "text/event-stream")
        assert head["cache-control"] == "no-cache"
        assert "content-encoding" not in head
        assert head["access-control-allow-origin"] == PAGE
        assert head.get("x-after") == (path if "after" in around else None)
        assert head.get("x-middleware") == ("1" if "middleware" in around else None)
        assert "seen" in response.cookies or "middleware" not in around
        assert ("x-stream" in head) is path.endswith("news")
        assert ("x-tuple" in head) is path.endswith("sync")
        lines = response.iter_lines()
        for message in ("one", "two"):
            made.publish(message)
            assert next_data(lines) == message


@pytest.mark.parametrize("around", [(), ALL])
def test_what_refuses_an_event_stream_is_heard(around: tuple[str, ...]) -> None:
    with TestClient(Application(*around).app) as client:
        refused = client.get("/in/a/news", headers={"x-refused": "1"})
        assert refused.status_code == 403
        assert "not for you" in refused.text
        assert refused.headers["content-type"].startswith(
            "application/json" if around else "text/plain"
        )
        broken = client.get("/in/a/news", headers={"x-broken": "1"})
        assert broken.status_code == 500
        assert ("on purpose" in broken.text) is bool(around)


@pytest.mark.parametrize("around", [(), ALL])
@pytest.mark.parametrize("path", ["/in/a/news", "/in/a/turbo"])
def test_head_options_preflights_and_other_methods(around: tuple[str, ...], path: str) -> None:
    with TestClient(Application(*around).app) as client:
        with streamed(client, path) as response:
            expected = response.headers["content-type"]
        head = client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == expected
        options = client.options(path)
        assert (options.status_code, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
        asks = {"origin": PAGE, "access-control-request-method": "GET"}
        preflight = client.options(path, headers=asks)
        assert preflight.headers["access-control-allow-origin"] == PAGE
        other = client.post(path, content=b"x")
        assert (other.status_code, other.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert client.get(path + "/").headers["location"] == path


def test_an_event_stream_in_middleware_can_be_replaced() -> None:
    app = Fanbus("replaced")

    @app.middleware
    async def replaced(request: Request, call_next: Callable[[Request], Any]) -> Any:
        response = await call_next(request)
        assert isinstance(response.body, EventStream)
        return EventStream("another") if "x-other" in request.headers else "nothing"

    @app.get("/news")
    def news() -> EventStream:
        return EventStream("news")

    with TestClient(app) as client:
        assert client.get("/news").text == "nothing"
        with streamed(client, "/news", **{"x-other": "1"}) as response:
            app.publish("another", "hello")
            assert next_data(response.iter_lines()) == "hello"


def test_a_test_server_ends_with_streams_open() -> None:
    made = Application(*ALL)
    with TestServer(made.app, workers=2) as server:
        assert server.get("/in/a/turbo").status_code == 200
        with streamed(server, "/in/a/news") as response:
            assert response.status_code == 200
    with TestClient(made.app) as client:
        stream = client.stream("GET", "/in/a/news")
        assert stream.__enter__().status_code == 200
    stream.__exit__(None, None, None)


def test_what_comes_after_a_turbo_route_is_kept_with_its_answer() -> None:
    made = Application("after", "errors")
    with TestClient(made.app) as client:
        for _ in range(3):
            answer = client.get("/in/a/turbo", headers={"origin": PAGE})
            assert answer.json()["asked"] == 1
            assert answer.headers["x-after"] == "/in/a/turbo"
            assert answer.headers["access-control-allow-origin"] == PAGE
            assert "etag" in answer.headers
            assert client.get("/in/missing/turbo").status_code == 404
        assert made.asked == {"a": 1, "missing": 1}
        # And none of it for a page of another origin.
        other = client.get("/in/a/turbo", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("around", ["middleware", "guard"])
def test_what_sees_requests_sees_each_one_for_a_turbo_route_too(around: str) -> None:
    made = Application(around)
    with TestClient(made.app) as client:
        if around == "guard":
            for _ in range(2):
                assert client.get("/in/a/turbo").status_code == 401
                assert client.get("/in/a/turbo", headers={"x-key": "1"}).status_code == 200
            return
        for number in (1, 2, 3):
            answer = client.get("/in/a/turbo")
            assert answer.headers["x-middleware"] == str(number)
            assert answer.json()["asked"] == number


def test_a_turbo_route_that_is_not_kept_is_told_of_at_the_start(server: StartServer) -> None:
    log = server("guarded").log()
    assert "The turbo route /in/turbo has middleware or before_request around it" in log
    assert log.count("its answers are not kept") == 1


def test_a_kept_answer_is_compressed_beside_all_that() -> None:
    with TestClient(Application("after").app) as client:
        url = "/in/a/turbo"
        with client.stream("GET", url, headers={"accept-encoding": "gzip"}) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            assert answer.headers["vary"].lower() == "accept-encoding, origin"
            whole = b"".join(answer.iter_raw())
        assert client.get(url).content == gzip.decompress(whole)


def test_both_have_names_in_their_router() -> None:
    app = Application().app
    assert app.url_for("inner.news", place="a b") == "/in/a%20b/news"
    assert app.url_for("inner.turbo", place="a", page=2) == "/in/a/turbo?page=2"


@pytest.mark.parametrize("around", [(), ("after",), ("middleware",), ALL])
def test_what_is_not_served_is_told_in_the_same_words_whoever_tells(
    around: tuple[str, ...],
) -> None:
    with TestClient(Application(*around).app) as client:
        missing = client.get("/in/%C3%BC/nothing")
        assert (missing.status_code, "allow" in missing.headers) == (404, False)
        assert missing.text == "Nothing is served at /in/%C3%BC/nothing\n"
        other = client.put("/in/a/news")
        assert (other.status_code, other.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert other.text == "This address answers only GET, HEAD, OPTIONS.\n"
        for answer in (missing, other):
            assert ("x-middleware" in answer.headers) is ("middleware" in around)
