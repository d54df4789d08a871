"""Turbo routes over HTTP: who is asked, how often, and what is kept."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from conftest import StartServer
from fanbus import Fanbus, FanbusError
from support.servers import wait_for


@pytest.fixture
def http(server: StartServer) -> Iterator[httpx.Client]:
    with server("turbo").http() as client:
        client.headers["accept-encoding"] = "identity"
        yield client


def test_constant_response_is_computed_once(http: httpx.Client) -> None:
    answers = [http.get("/constant") for _ in range(5)]
    assert {answer.text for answer in answers} == {"asked 1"}
    assert len({answer.headers["etag"] for answer in answers}) == 1
    assert answers[4].headers["content-type"] == "text/plain; charset=utf-8"


def test_an_answer_lives_for_its_time(http: httpx.Client) -> None:
    assert http.get("/short").text == "asked 1"
    wait_for(lambda: http.get("/short").text == "asked 2", "another answer")


def test_each_path_and_query_has_its_own(http: httpx.Client) -> None:
    paths = ["/items/1", "/items/2", "/items/1?page=1", "/items/1?page=2"]
    first = [http.get(path).json() for path in paths]
    assert [(one["item"], one["page"]) for one in first] == [
        (1, None),
        (2, None),
        (1, "1"),
        (1, "2"),
    ]
    assert [http.get(path).json() for path in paths] == first
    assert http.get("/asked").json() == {"item": 4}
    assert http.get("/items/none").status_code == 404
    assert http.post("/items/1").status_code == 405


def test_simultaneous_requests_call_the_function_once(http: httpx.Client) -> None:
    with ThreadPoolExecutor(10) as pool:
        answers = set(pool.map(lambda _: http.get("/slow").text, range(10)))
    assert answers == {"asked 1"}


@pytest.mark.parametrize("how", ["failing", "unavailable", "cookie", "vary", "cache-control"])
def test_failed_or_private_response_is_not_cached(http: httpx.Client, how: str) -> None:
    for _ in range(3):
        answer = http.get(f"/never/{how}")
        assert "etag" not in answer.headers
    assert http.get("/asked").json() == {how: 3}


def test_refusal_is_cached(http: httpx.Client) -> None:
    answers = [http.get("/missing") for _ in range(3)]
    assert {(answer.status_code, answer.text) for answer in answers} == {(404, answers[0].text)}
    assert http.get("/asked").json() == {"missing": 1}


def test_head_and_304(http: httpx.Client) -> None:
    head = http.head("/items/7")
    assert (head.status_code, head.content) == (200, b"")
    answer = http.get("/items/7")
    assert answer.json()["method"] == "GET"
    assert answer.json()["asked"] == 1
    assert head.headers["content-length"] == str(len(answer.content))
    known = http.get("/items/7", headers={"if-none-match": answer.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert http.get("/items/7", headers={"if-none-match": '"other"'}).status_code == 200


def test_cached_response_is_compressed_for_clients_that_accept_it(http: httpx.Client) -> None:
    plain = http.get("/large")
    assert "content-encoding" not in plain.headers
    with http.stream("GET", "/large", headers={"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["etag"] == f"W/{plain.headers['etag']}"
        assert gzip.decompress(b"".join(answer.iter_raw())) == plain.content
    assert http.get("/asked").json() == {"large": 1}


def test_a_body_is_not_looked_at(http: httpx.Client) -> None:
    answer = http.request("GET", "/constant", content=b"x" * 100_000)
    assert answer.text == "asked 1"
    assert http.get("/constant").text == "asked 1"


@pytest.mark.parametrize("ttl", [0, -1, True, "1", float("nan"), float("inf")])
def test_a_time_that_cannot_be_is_refused(ttl: object) -> None:
    with pytest.raises(FanbusError, match="cache_ttl must be a number of seconds"):
        Fanbus().turbo_route("/", cache_ttl=ttl)  # type: ignore[arg-type]


def test_all_workers_give_the_same_etag(server: StartServer) -> None:
    with server("turbo", workers=2).http() as http:
        tags = {http.get("/large").headers["etag"] for _ in range(30)}
    assert len(tags) == 1
