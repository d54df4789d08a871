"""Event streams and turbo routes together with everything that is around routes, over plain and
encrypted HTTP, and below a prefix: its own, or a proxy's."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any
from unittest.mock import patch

import httpx
import pytest

from conftest import StartServer
from fanbus import EventStream, Fanbus, HTTPError, Request, Response, Router
from fanbus.config import Settings
from fanbus.testing import TestClient, TestServer
from support.certificates import Certificates
from support.pairwise import pairwise

PAGE = "https://page.example"


class Application:
    """An event stream and a turbo route, in a router, with what is asked for around them."""

    def __init__(self, *around: str, prefix: str = "") -> None:
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

        self.app.include(router, prefix=prefix)

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

TRANSPORTS = ("http", "https", "http2")
PLACES = ("plain", "mounted", "proxied")
MOUNTED = "/mounted"
OUTSIDE = "/outside"


@dataclass(frozen=True)
class Way:
    """How an application is reached: over what, and below which prefix."""

    transport: str
    place: str
    certificates: Certificates

    @property
    def prefix(self) -> str:
        """Before the paths of a request."""
        return MOUNTED if self.place == "mounted" else ""

    @property
    def shown(self) -> str:
        """Before the paths of a link."""
        return OUTSIDE if self.place == "proxied" else self.prefix

    def application(self, *around: str) -> Application:
        """With this around its routes."""
        return Application(*around, prefix=self.prefix)

    @contextmanager
    def client(self, made: Application) -> Iterator[TestClient]:
        """Served, and asked, in this way."""
        encrypted = self.transport != "http"
        options: dict[str, Any] = {}
        if encrypted:
            options = {
                "ssl_certfile": str(self.certificates.certfile),
                "ssl_keyfile": str(self.certificates.keyfile),
            }
        if self.place == "proxied":
            options["root_path"] = OUTSIDE
        plain = Settings.of
        settings = patch.object(
            Settings, "of", lambda values, **named: plain({**values, **options}, **named)
        )
        protocols = ("h2", "http/1.1") if self.transport == "http2" else ("http/1.1",)
        context = self.certificates.trusted(protocols=protocols)
        client = TestClient(made.app, http2=self.transport == "http2", verify=context)
        with settings, client:
            if encrypted:
                client.base_url = httpx.URL(f"https://127.0.0.1:{client.port}")
            yield client

    def check(self, response: httpx.Response) -> None:
        """It has come in this way, and in no other."""
        assert response.url.scheme == ("http" if self.transport == "http" else "https")
        expected = "HTTP/2" if self.transport == "http2" else "HTTP/1.1"
        assert response.http_version == expected


@pytest.fixture
def way(transport: str, place: str, certificates: Certificates) -> Way:
    return Way(transport, place, certificates)


def in_all_ways(**dimensions: Sequence[Any]) -> pytest.MarkDecorator:
    """Runs a test with every two values of these, of the transports and of the places, together."""
    dimensions = {"transport": TRANSPORTS, "place": PLACES, **dimensions}
    return pytest.mark.parametrize(tuple(dimensions), pairwise(*dimensions.values()))


@contextmanager
def streamed(client: httpx.Client, path: str, **headers: str) -> Iterator[httpx.Response]:
    """A stream from which the first block has come."""
    with client.stream("GET", path, headers=headers) as response:
        yield response


def next_data(lines: Iterator[str]) -> str:
    return next(line for line in lines if line.startswith("data: ")).removeprefix("data: ")


@in_all_ways(around=[(), ("after",), ("errors",), ALL], path=["/in/a/news", "/in/a/sync"])
def test_an_event_stream_is_a_response_like_any_other(
    way: Way, around: tuple[str, ...], path: str
) -> None:
    made = way.application(*around)
    path = way.prefix + path
    with way.client(made) as client, streamed(client, path, origin=PAGE) as response:
        way.check(response)
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


@in_all_ways(around=[(), ALL])
def test_refusal_of_an_event_stream_reaches_the_client(way: Way, around: tuple[str, ...]) -> None:
    with way.client(way.application(*around)) as client:
        news = f"{way.prefix}/in/a/news"
        refused = client.get(news, headers={"x-refused": "1"})
        way.check(refused)
        assert refused.status_code == 403
        assert "not for you" in refused.text
        assert refused.headers["content-type"].startswith(
            "application/json" if around else "text/plain"
        )
        broken = client.get(news, headers={"x-broken": "1"})
        assert broken.status_code == 500
        assert ("on purpose" in broken.text) is bool(around)


@in_all_ways(around=[(), ALL], path=["/in/a/news", "/in/a/turbo"])
def test_head_options_preflights_and_other_methods(
    way: Way, around: tuple[str, ...], path: str
) -> None:
    shown, path = way.shown + path, way.prefix + path
    with way.client(way.application(*around)) as client:
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
        assert client.get(path + "/").headers["location"] == shown


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


@in_all_ways()
def test_result_of_after_request_is_cached_with_a_turbo_response(way: Way) -> None:
    made = way.application("after", "errors")
    path = f"{way.prefix}/in/a/turbo"
    with way.client(made) as client:
        for _ in range(3):
            answer = client.get(path, headers={"origin": PAGE})
            way.check(answer)
            assert answer.json()["asked"] == 1
            assert answer.headers["x-after"] == path
            assert answer.headers["access-control-allow-origin"] == PAGE
            has_it = client.get(path, headers={"if-none-match": answer.headers["etag"]})
            assert (has_it.status_code, has_it.content) == (304, b"")
            assert client.get(f"{way.prefix}/in/missing/turbo").status_code == 404
        assert made.asked == {"a": 1, "missing": 1}
        # And none of it for a page of another origin.
        other = client.get(path, headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


@in_all_ways(around=["middleware", "guard"])
def test_what_sees_requests_sees_each_one_for_a_turbo_route_too(way: Way, around: str) -> None:
    path = f"{way.prefix}/in/a/turbo"
    with way.client(way.application(around)) as client:
        if around == "guard":
            for _ in range(2):
                assert client.get(path).status_code == 401
                assert client.get(path, headers={"x-key": "1"}).status_code == 200
            return
        for number in (1, 2, 3):
            answer = client.get(path)
            assert answer.headers["x-middleware"] == str(number)
            assert answer.json()["asked"] == number


def test_uncached_turbo_route_is_logged_at_the_start(server: StartServer) -> None:
    log = server("guarded_turbo").log()
    assert "The turbo route /in/turbo has middleware or before_request around it" in log
    assert log.count("its responses are not cached") == 1


@in_all_ways()
def test_cached_response_is_compressed_in_combination(way: Way) -> None:
    with way.client(way.application("after")) as client:
        url = f"{way.prefix}/in/a/turbo"
        with client.stream("GET", url, headers={"accept-encoding": "gzip"}) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            assert answer.headers["vary"].lower() == "accept-encoding, origin"
            whole = b"".join(answer.iter_raw())
        assert client.get(url).content == gzip.decompress(whole)


@in_all_ways()
def test_both_have_names_in_their_router(way: Way) -> None:
    made = way.application()
    with way.client(made):
        news = made.app.url_for("inner.news", place="a b")
        assert news == f"{way.shown}/in/a%20b/news"
        turbo = made.app.url_for("inner.turbo", place="a", page=2)
        assert turbo == f"{way.shown}/in/a/turbo?page=2"


@in_all_ways(around=[(), ("after",), ("middleware",), ALL])
def test_unserved_request_gets_the_same_text_from_rust_and_python(
    way: Way, around: tuple[str, ...]
) -> None:
    with way.client(way.application(*around)) as client:
        nothing = f"{way.prefix}/in/%C3%BC/nothing"
        missing = client.get(nothing)
        assert (missing.status_code, "allow" in missing.headers) == (404, False)
        assert missing.text == f"Nothing is served at {nothing}\n"
        other = client.put(f"{way.prefix}/in/a/news")
        assert (other.status_code, other.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert other.text == "This path only supports GET, HEAD, OPTIONS.\n"
        for answer in (missing, other):
            assert ("x-middleware" in answer.headers) is ("middleware" in around)


def test_any_two_ways_and_routes_meet_in_some_case() -> None:
    dimensions = (TRANSPORTS, PLACES, (1, 2, 3, 4), (5, 6))
    cases = pairwise(*dimensions)
    for (one, first), (two, second) in combinations(enumerate(dimensions), 2):
        met = {(case[one], case[two]) for case in cases}
        assert met == set(product(first, second))
    assert len(cases) < 18  # of 72
